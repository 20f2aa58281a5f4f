//! The deterministic world that drives haggle-core: virtual network, clock and faults.
