//! Any bytes as a snapshot: refused, typed, or a machine that keeps the laws and can be kept again.

use haggle_core::{
    Input, Instant, Limits, Machine, Millis, Policy, Provider, Requester, SnapshotError, provider::Service,
};
use sha2::{Digest, Sha256};

const NOW: Instant = Instant::from_millis(1 << 40);
/// Timeouts after which a machine is taken to be endless.
const STEPS: usize = 2000;

/// Restores `data` as it is, and as what an envelope with a good checksum holds. The first byte says for which machine and
/// how long it was away.
pub fn snapshot(data: &[u8]) {
    let (first, payload) = data.split_first().unwrap_or((&0, &[]));
    let away = Millis(u64::from(first >> 1) * 1000);
    let kind = 1 + (first & 1);
    for bytes in [payload.to_vec(), seal(kind, payload)] {
        match kind {
            1 => check(requester(&bytes, away), |machine, now| machine.snapshot(now), requester),
            _ => check(provider(&bytes, away), |machine, now| machine.snapshot(now), provider),
        }
    }
}

fn requester(bytes: &[u8], away: Millis) -> Result<Requester, SnapshotError> {
    Requester::restore((NOW, away), bytes, &[], Policy::default(), Limits::default(), [7; 32])
}

fn provider(bytes: &[u8], away: Millis) -> Result<Provider, SnapshotError> {
    Provider::restore((NOW, away), bytes, Service::default(), Limits::default(), [7; 32])
}

fn check<M: Machine + Clone>(
    restored: Result<M, SnapshotError>,
    keep: impl Fn(&M, Instant) -> Vec<u8>,
    restore: impl Fn(&[u8], Millis) -> Result<M, SnapshotError>,
) {
    let Ok(mut machine) = restored else { return };
    // What is restored can be kept, and is the same then.
    let kept = keep(&machine, NOW);
    let again = restore(&kept, Millis::ZERO).unwrap();
    let last = keep(&again, NOW);
    assert_eq!(restore(&last, Millis::ZERO).map(|machine| keep(&machine, NOW).len()), Ok(last.len()));
    let mut now = NOW;
    for _ in 0..STEPS {
        while machine.poll_output().is_some() {}
        let Some(timeout) = machine.poll_timeout() else { return };
        now = now.max(timeout.at);
        if now == Instant::MAX {
            return;
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
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend((payload.len() as u64).to_be_bytes());
    let sum = Sha256::new().chain_update(&bytes).chain_update(payload).finalize();
    bytes.extend(sum);
    bytes.extend(payload);
    bytes
}
