//! Zstandard (RFC 8878), as qcow2 images with `compression_type=zstd` use it: one cluster is one
//! frame, followed by whatever is in the rest of its last sector. Both ways take long, so they run
//! on the thread pool.

use napi::bindgen_prelude::{AsyncTask, Uint8Array};
use napi::{Env, Error, Result, Task};
use napi_derive::napi;
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

/// Frames that want a larger window are refused: RFC 8878, section 3.1.1.1.2, asks for 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// The library's own default, which other programs write.
const LEVEL: i32 = zstd_safe::CLEVEL_DEFAULT;

/// Packs a cluster.
pub struct Compress {
    cluster: Uint8Array,
}

impl Task for Compress {
    type Output = Option<Vec<u8>>;
    type JsValue = Option<Uint8Array>;

    fn compute(&mut self) -> Result<Self::Output> {
        let mut packed: Vec<u8> = Vec::with_capacity(self.cluster.len());
        let mut context = CCtx::try_create().ok_or_else(no_memory)?;
        context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(failed)?;
        // The only failure of a whole buffer is that the result has no room.
        Ok(context.compress2(&mut packed, &self.cluster).is_ok().then_some(packed))
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> Result<Self::JsValue> {
        Ok(output.map(Uint8Array::from))
    }
}

/// Packs a cluster into one frame; resolves to null when that is not smaller.
#[napi]
pub fn zstd_compress(cluster: Uint8Array) -> AsyncTask<Compress> {
    AsyncTask::new(Compress { cluster })
}

/// Unpacks a cluster.
pub struct Decompress {
    packed: Uint8Array,
    length: usize,
}

impl Task for Decompress {
    type Output = Vec<u8>;
    type JsValue = Uint8Array;

    fn compute(&mut self) -> Result<Self::Output> {
        let mut bytes = vec![0; self.length];
        let mut context = DCtx::try_create().ok_or_else(no_memory)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(failed)?;
        let mut input = InBuffer::around(&self.packed[..]);
        let mut output = OutBuffer::around(&mut bytes[..]);
        let mut hint = 1;
        while output.pos() < self.length {
            let before = (input.pos(), output.pos());
            hint = context.decompress_stream(&mut output, &mut input).map_err(failed)?;
            if before == (input.pos(), output.pos()) {
                return Err(Error::from_reason("the frame ends early"));
            }
        }
        if hint != 0 {
            return Err(Error::from_reason(format!("more than {} bytes", self.length)));
        }
        Ok(bytes)
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> Result<Self::JsValue> {
        Ok(Uint8Array::from(output))
    }
}

/// Unpacks a frame to exactly `length` bytes; what follows the frame is left alone. Rejects for
/// anything that is no such frame.
#[napi]
pub fn zstd_decompress(packed: Uint8Array, length: u32) -> AsyncTask<Decompress> {
    AsyncTask::new(Decompress { packed, length: length as usize })
}

fn no_memory() -> Error {
    Error::from_reason("no memory for zstd")
}

fn failed(code: usize) -> Error {
    Error::from_reason(zstd_safe::get_error_name(code).to_owned())
}
