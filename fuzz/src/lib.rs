//! Fuzz bodies as a library; plain cargo test replays the committed corpus.
