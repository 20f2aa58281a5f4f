//! One token through both machines: push, frame, bytes, deframe, decode, window, event, consumed, and every so often an Ack.

use criterion::{Criterion, criterion_group, criterion_main};
use haggle_benches::Pair;
use haggle_core::spec::Failover;

fn token(criterion: &mut Criterion) {
    let mut pair = Pair::streaming(Failover::Never);
    let mut group = criterion.benchmark_group("token");
    group.bench_function("provider to requester", |bencher| {
        bencher.iter(|| {
            pair.token();
            pair.tick();
            // A job has a deadline: long before it, the next one begins.
            if pair.taken() > 20_000 {
                pair = Pair::streaming(Failover::Never);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, token);
criterion_main!(benches);
