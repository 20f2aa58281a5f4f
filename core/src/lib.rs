//! The sans-IO protocol core of haggle: negotiation, streaming and budget as pure state machines.
