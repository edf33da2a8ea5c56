//! Small guests with hand-assembled code: what user code of the host cannot show.

mod bad_code;
mod debug;
mod devices;
mod events;
mod legacy;
mod machine;
mod memory;
mod modes;
mod refused;
mod self_modifying;
mod strings;
mod x87;
