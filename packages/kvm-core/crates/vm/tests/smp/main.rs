//! Several vCPUs of the software engine in one VM.

mod atomics;
mod code;
mod litmus;
mod machine;
mod startup;
