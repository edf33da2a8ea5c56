//! Small guests with hand-assembled code: what user code of the host cannot show.

#[path = "../support/alarm.rs"]
mod alarm;
mod bad_code;
mod calls;
mod debug;
mod devices;
mod events;
mod flat;
mod kernel_ops;
mod legacy;
mod machine;
mod memory;
mod modes;
#[path = "../support/policy.rs"]
mod policy;
mod port_strings;
mod refused;
// The differential tests use all of it.
#[allow(dead_code)]
#[path = "../differential/rng.rs"]
mod rng;
mod self_modifying;
mod shared_checks;
mod strings;
mod x87;
