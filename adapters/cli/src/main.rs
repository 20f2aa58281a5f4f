//! The command line of haggle.
fn main() {}
