//! The program as its users meet it: separate processes, real sockets on 127.0.0.1, exit codes and texts.
//!
//! Nothing waits for a time to pass: a test reads what the processes write, and fails when it does not come.

mod advice;
mod books;
mod chat;
mod conformance;
mod flight;
mod gateway;
mod input;
mod line;
mod load;
mod market;
mod matrix;
#[cfg(target_os = "linux")]
mod mdns;
mod models;
#[cfg(target_os = "linux")]
mod moves;
#[cfg(target_os = "linux")]
#[path = "../../../libp2p/tests/it/namespace.rs"]
mod namespace;
mod persistence;
mod relay;
#[path = "../../../engine/tests/it/server.rs"]
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod server;
mod service;
mod settings;
mod shop;
mod signals;
mod strangers;
#[cfg(target_os = "linux")]
mod terminal;
mod troubles;
mod upstream;
mod world;
