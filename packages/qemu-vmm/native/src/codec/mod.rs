//! Compression of image clusters that Node.js cannot do in all the versions that are supported.

mod zstd;
