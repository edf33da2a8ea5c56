//! Numbers of JavaScript as the integers that they must be.

use kvm_abi::KvmError;
use napi::bindgen_prelude::BigInt;

use crate::error::{Result, js};

/// The largest number that is exact.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// A non-negative integer of at most 2^53 - 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn integer(value: f64, name: &str) -> Result<u64> {
    if value.fract() == 0.0 && (0.0..=MAX_SAFE).contains(&value) {
        return Ok(value as u64);
    }
    Err(js(KvmError::invalid(format!("{name} {value} is not an integer from 0 to 2^53 - 1"))))
}

/// As [`integer`], and at most `max`.
pub fn at_most(value: f64, max: u64, name: &str) -> Result<u64> {
    let n = integer(value, name)?;
    if n <= max {
        return Ok(n);
    }
    Err(js(KvmError::invalid(format!("{name} {n:#x} is above {max:#x}"))))
}

/// A u32.
#[allow(clippy::cast_possible_truncation)]
pub fn word(value: f64, name: &str) -> Result<u32> {
    at_most(value, u64::from(u32::MAX), name).map(|n| n as u32)
}

/// A u8.
#[allow(clippy::cast_possible_truncation)]
pub fn byte(value: f64, name: &str) -> Result<u8> {
    at_most(value, u64::from(u8::MAX), name).map(|n| n as u8)
}

/// A BigInt of at most 64 bits.
pub fn quad(value: &BigInt, name: &str) -> Result<u64> {
    let (negative, n, exact) = value.get_u64();
    if exact && !negative {
        return Ok(n);
    }
    Err(js(KvmError::invalid(format!("{name} is not in the range of 64 bits"))))
}

/// A count for JavaScript; what is above 2^53 - 1 becomes that.
#[allow(clippy::cast_precision_loss)]
pub fn number(value: u64) -> f64 {
    (value as f64).min(MAX_SAFE)
}
