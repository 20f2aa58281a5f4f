//! The program as its users meet it: separate processes, real sockets on 127.0.0.1, exit codes and texts.
//!
//! Nothing waits for a time to pass: a test reads what the processes write, and fails when it does not come.

mod input;
mod market;
#[cfg(target_os = "linux")]
mod mdns;
mod models;
mod relay;
mod settings;
mod signals;
mod world;
