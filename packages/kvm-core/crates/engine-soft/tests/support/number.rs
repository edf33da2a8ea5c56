//! Numbers from the environment, by which a run is varied or a failure repeated.

/// The value of a variable, decimal or hexadecimal behind `0x`.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number")))
}
