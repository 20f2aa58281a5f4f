//! How to use the core, in six chapters. What crosses the wire is in `core/PROTOCOL.md`, how the house is built in `ARCHITECTURE.md`.
//!
//! 1. [The run loop](run_loop): both machines joined in sixty lines that run
//! 2. [Buying](buying): jobs, tokens, back-pressure
//! 3. [Selling](selling): service, engine, draining
//! 4. [Money](money): units, budgets, bills
//! 5. [Failures](failures): what is done about them, and what you see of it
//! 6. [Limits](limits): every bound, and what reaching it gives

#[cfg(doc)]
use crate::*;

macro_rules! chapters {
    ($($name:ident)*) => {$(
        #[doc = include_str!(concat!("manual/", stringify!($name), ".md"))]
        pub mod $name {}
    )*};
}

chapters! { run_loop buying selling money failures limits }
