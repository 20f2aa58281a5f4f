//! The gateway as its clients meet it: real sockets on 127.0.0.1, a real market behind it.
//!
//! Nothing waits for a time to pass: a test reads what is sent, and fails when it does not come.

mod answers;
mod budgets;
mod channels;
mod client;
mod hostile;
mod logs;
mod market;
mod owner;
mod page;
mod refusals;
mod repeats;
mod responses;
mod runtimes;
mod sockets;
