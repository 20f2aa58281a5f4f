//! A failing run, so that somebody else can run it again: as one line, as a file, as a story, as a test.

use crate::{Broken, Plan, laws, log, plan::PlanError};

/// The version of the line; a line of another version is refused.
const VERSION: &str = "v1";
/// Events of a story.
const LAST: usize = 30;

/// The line that names a seed's world: `v1:SEED:MARK`, with `:EVENTS` if it is healed after so many, with
/// `:fair` or `:one-way` if it is the seed's world for a law. The mark tells whether the generator still draws the same.
#[must_use]
pub fn line(seed: u64) -> String {
    format!("{VERSION}:{seed}:{:08x}", mark(&Plan::draw(seed)))
}

/// The command that runs it again.
#[must_use]
pub fn command(line: &str) -> String {
    format!("cargo run --release -p haggle-sim -- replay {line}")
}

/// The plan that is meant by a seed, a line, or the text of a file.
///
/// # Errors
/// What can not be understood, or is of another version.
pub fn seed_plan(line: &str) -> Result<Plan, PlanError> {
    let refused = |what: String| Err(PlanError::new(what));
    if let Ok(seed) = line.parse() {
        return Ok(Plan::draw(seed));
    }
    let parts: Vec<&str> = line.split(':').collect();
    let ([version, seed, known] | [version, seed, known, _]) = parts[..] else {
        return refused(format!("'{line}' is neither a seed nor a line '{VERSION}:SEED:MARK' nor a file"));
    };
    if version != VERSION {
        return refused(format!("'{line}' is of version {version}, this program knows {VERSION}"));
    }
    let Ok(seed) = seed.parse() else { return refused(format!("'{seed}' is no seed")) };
    let plan = Plan::draw(seed);
    let now = format!("{:08x}", mark(&plan));
    if known != now {
        return refused(format!(
            "seed {seed} draws another world than it did when this line was written ({now}, not {known}): \
             replay the file that was kept with it, or build the commit that wrote it"
        ));
    }
    match parts.get(3).copied() {
        None => Ok(plan),
        Some("fair") => Ok(laws::fair(seed)),
        Some("one-way") => Ok(laws::one_way(seed)),
        Some(events) => match events.parse() {
            Ok(events) => Ok(Plan { heal_after: Some(events), ..plan }),
            Err(_) => refused(format!("'{line}' does not say after how many events the world is healed")),
        },
    }
}

/// 32 bits that tell plans apart.
fn mark(plan: &Plan) -> u32 {
    (plan.to_text().bytes().fold(0, |hash, byte| crate::dice::mix(hash ^ u64::from(byte))) >> 32) as u32
}

/// Which rule is broken, when, for which job, and the last events that it can have depended on; `None` if none is.
#[must_use]
pub fn story(plan: &Plan) -> Option<String> {
    let mut world = plan.world();
    world.keep_log();
    plan.finish_or_stop(&mut world, |_| true);
    let broken = world.broken().first()?.clone();
    let entries = world.log();
    let mut text = format!("BROKEN {broken}\n");
    if let Some(job) = broken.job {
        text.push_str(&format!("  job {job}\n"));
    }
    for entry in log::related(&entries, broken.job, LAST) {
        text.push_str(&format!("  {entry}\n"));
    }
    Some(text)
}

/// A test that runs the plan and fails as long as it breaks a rule.
#[must_use]
pub fn as_test(plan: &Plan, broken: &Broken) -> String {
    let name = format!("{:?}_{:08x}_is_kept", broken.rule, mark(plan)).to_lowercase();
    let text = plan.to_text();
    format!(
        "/// {broken}\n#[test]\nfn {name}() {{\n    let plan = haggle_sim::Plan::parse(r#\"\n{text}\"#).unwrap();\n    \
         plan.run().verdict().unwrap();\n}}\n"
    )
}
