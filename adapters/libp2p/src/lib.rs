//! Haggle over libp2p: find machines that serve a language model, agree a price, stream the answer.
