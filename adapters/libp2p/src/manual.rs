//! How to use a node, in four chapters.
//!
//! 1. [Runtimes](runtimes): `#[tokio::main]`, no runtime at all, features and what each brings
//! 2. [Buying](buying): jobs as streams, back-pressure, what happens to what is dropped, units
//! 3. [Selling](selling): engines, prices, draining
//! 4. [The network](network): how nodes find each other, errors, tests of your own
//!
//! What the machines behind it decide, and why, is in the manual of [`core`](crate::core::manual).

#[cfg(doc)]
use crate::*;

macro_rules! chapters {
    ($($name:ident)*) => {$(
        #[doc = include_str!(concat!("manual/", stringify!($name), ".md"))]
        pub mod $name {}
    )*};
}

chapters! { runtimes buying selling network }
