//! What a provider runs: the engine trait and the embedded model.
