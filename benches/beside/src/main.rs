//! 16-byte messages that nodes pass on over links of 1 to 10 ms, one on its way for each node, in one run of every engine.
//!
//! `cargo run --release --manifest-path benches/beside/Cargo.toml`

mod with_tokio;
mod with_turmoil;

use haggle_sim::bench::{Took, messages};

fn main() {
    for nodes in [100_u32, 1000] {
        println!("{nodes} nodes:");
        let bare = Took::measure(|| messages::bare(nodes, 3_000_000, 1));
        show("bare event loop", bare, bare);
        let mut world = messages::world(nodes, 1);
        show("haggle-sim", Took::measure(|| messages::pass(&mut world, 3_000_000)), bare);
        show("tokio, paused clock", Took::measure(|| with_tokio::pass(nodes, 1_000_000)), bare);
        // A thousand take it minutes.
        if nodes <= 100 {
            show("turmoil", Took::measure(|| with_turmoil::pass(nodes, 20_000)), bare);
        }
    }
}

fn show(name: &str, took: Took, bare: Took) {
    println!("  {name}: {} messages a second, {} ‰ of the bare event loop", took.per_second(), took.permille_of(bare));
}
