//! Criterion benches of haggle.
