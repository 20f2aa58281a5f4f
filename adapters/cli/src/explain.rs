//! Why a job went where it went, for `ask --explain`.

use haggle::{
    core::{
        event::explain::{Step, Verdict, Weighed, Weighing},
        peers::Lift,
    },
    id,
    libp2p::PeerId,
};
use serde_json::{Value, json};

use crate::{money::decimal, spans::span};

/// The step in a line, then one line for each provider that was looked at.
pub(crate) fn lines(weighing: &Weighing, name: impl Fn(&PeerId) -> String) -> Vec<String> {
    let funds = weighing.funds.map_or_else(|| "no price".into(), |funds| format!("{} units", decimal(funds)));
    let seconds = weighing.time_left.0.div_ceil(1000);
    let mut head = format!("{} ({funds} and {seconds} s left", step(weighing.step));
    if weighing.time_value > 0 {
        head.push_str(&format!(", a second is worth {}", decimal(weighing.time_value)));
    }
    head.push(')');
    match weighing.lift {
        Lift::Nothing => {}
        Lift::Probation => head.push_str("; nobody else is left: probation is overlooked"),
        Lift::Panic => {
            head.push_str("; most failed lately, the fault may be here: breakers and scores are overlooked");
        }
    }
    let line = |weighed: &Weighed| {
        let peer = id::to_libp2p(&weighed.peer).map(|peer| name(&peer)).unwrap_or_default();
        let cost = weighed.cost.map(|cost| format!(", at most {} units", decimal(cost))).unwrap_or_default();
        let time = weighed.expected.map(|time| format!(", first token in about {}", span(time))).unwrap_or_default();
        format!("  {peer}{cost}{time}: {}", weighed.verdict)
    };
    std::iter::once(head).chain(weighing.candidates.iter().map(line)).collect()
}

/// The same for programs.
pub(crate) fn to_json(weighing: &Weighing) -> Value {
    let candidate = |weighed: &Weighed| {
        json!({
            "peer": id::to_libp2p(&weighed.peer).map(|peer| peer.to_string()),
            "verdict": verdict(weighed.verdict),
            "why": weighed.verdict,
            "text": weighed.verdict.to_string(),
            "cost": weighed.cost.map(decimal),
            "expected_ms": weighed.expected.map(|time| time.0),
        })
    };
    json!({
        "event": "job:weighed",
        "step": weighing.step,
        "funds": weighing.funds.map(decimal),
        "time_left_ms": weighing.time_left.0,
        "time_value": decimal(weighing.time_value),
        "lift": weighing.lift,
        "candidates": weighing.candidates.iter().map(candidate).collect::<Vec<_>>(),
    })
}

const fn step(step: Step) -> &'static str {
    match step {
        Step::Asking => "who is asked",
        Step::Choosing => "whose offer is taken",
        Step::Nobody => "nobody is left to be asked",
    }
}

/// A word to select by.
const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Awarded(_) => "awarded",
        Verdict::Acceptable => "acceptable",
        Verdict::Asked => "asked",
        Verdict::NotDrawn => "not_drawn",
        Verdict::Beaten => "beaten",
        Verdict::NotFree => "not_free",
        Verdict::OverBudget => "over_budget",
        Verdict::TooSlow => "too_slow",
        Verdict::LeftOut(_) => "left_out",
    }
}
