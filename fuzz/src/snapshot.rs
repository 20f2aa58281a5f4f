//! Any bytes as a snapshot: refused, typed, or a machine that keeps the laws and can be kept again.

use haggle_core::{
    Input, Instant, Limits, Machine, Millis, Policy, Provider, Requester, SnapshotError, provider::Service,
};
use sha2::{Digest, Sha256};

/// One clock that shows all of the past, and one that has just begun.
const CLOCKS: [Instant; 2] = [Instant::from_millis(1 << 40), Instant::from_millis(1000)];
/// Timeouts after which a machine is taken to be endless.
const STEPS: usize = 2000;

/// Restores `data` as it is, and as what an envelope with a good checksum holds. The first byte says for which machine and
/// how long it was away.
pub fn snapshot(data: &[u8]) {
    let (first, payload) = data.split_first().unwrap_or((&0, &[]));
    let away = Millis(u64::from(first >> 1) * 1000);
    let kind = 1 + (first & 1);
    for bytes in [payload.to_vec(), seal(kind, payload)] {
        let errors = CLOCKS.map(|now| match kind {
            1 => check((now, away), &bytes, |machine, now| machine.snapshot(now), requester),
            _ => check((now, away), &bytes, |machine, now| machine.snapshot(now), provider),
        });
        assert_eq!(errors[0], errors[1], "how late it is on the clock of the reader decides");
    }
}

fn requester(at: (Instant, Millis), bytes: &[u8]) -> Result<Requester, SnapshotError> {
    Requester::restore(at, bytes, &[], Policy::default(), Limits::default(), [7; 32])
}

fn provider(at: (Instant, Millis), bytes: &[u8]) -> Result<Provider, SnapshotError> {
    Provider::restore(at, bytes, Service::default(), Limits::default(), [7; 32])
}

/// Says why it is refused, if it is.
fn check<M: Machine + Clone>(
    (mut now, away): (Instant, Millis),
    bytes: &[u8],
    keep: impl Fn(&M, Instant) -> Vec<u8>,
    restore: impl Fn((Instant, Millis), &[u8]) -> Result<M, SnapshotError>,
) -> Option<SnapshotError> {
    let mut machine = match restore((now, away), bytes) {
        Ok(machine) => machine,
        Err(error) => return Some(error),
    };
    // What is restored can be kept, and is the same then.
    let kept = keep(&machine, now);
    let at = (now, Millis::ZERO);
    let last = keep(&restore(at, &kept).unwrap(), now);
    assert_eq!(restore(at, &last).map(|machine| keep(&machine, now).len()), Ok(last.len()));
    for _ in 0..STEPS {
        while machine.poll_output().is_some() {}
        let timeout = machine.poll_timeout()?;
        now = now.max(timeout.at);
        if now == Instant::MAX {
            return None;
        }
        machine.handle_input(now, Input::Timeout);
        assert!(machine.poll_timeout().is_none_or(|next| next.at > now), "a timeout that was handled is due again");
    }
    panic!("it never rests");
}

/// The envelope that a core writes.
pub(crate) fn seal(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"haggle/s".to_vec();
    bytes.push(kind);
    bytes.extend(2_u32.to_be_bytes());
    bytes.extend((payload.len() as u64).to_be_bytes());
    let sum = Sha256::new().chain_update(&bytes).chain_update(payload).finalize();
    bytes.extend(sum);
    bytes.extend(payload);
    bytes
}
