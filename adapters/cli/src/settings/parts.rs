//! Which settings belong together.

/// Whose setting it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Node,
    Sales,
    Running,
}

pub(super) fn part_of(key: &str) -> Part {
    match key {
        "model" | "model_file" | "threads" | "context" | "aliases" | "price_in" | "price_out" => Part::Sales,
        "floor_permille" | "tokens_per_second" | "upstream" | "features" | "models" => Part::Sales,
        "gateway" | "gateway.key" | "budget" | "ledger" | "metrics" | "status_every" | "drain" => Part::Running,
        key if key.starts_with("upstream_") => Part::Sales,
        _ => Part::Node,
    }
}
