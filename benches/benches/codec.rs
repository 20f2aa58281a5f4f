//! The wire: one token as a message, and frames out of a byte stream.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haggle_core::wire::{Deframer, Message, decode, encode, encode_frame};

fn codec(criterion: &mut Criterion) {
    let token = Message::Chunk { seq: 1000, n: 1, text: " and", ids: None, channel: None };
    let mut bytes = Vec::with_capacity(64);
    criterion.bench_function("encode a token", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            encode(black_box(&token), &mut bytes);
        });
    });
    criterion.bench_function("decode a token", |bencher| {
        bencher.iter(|| decode(black_box(&bytes)).map(|message| matches!(message, Message::Chunk { n: 1, .. })));
    });

    let mut stream = Vec::new();
    for seq in 0..1000 {
        encode_frame(&Message::Chunk { seq, n: 1, text: " and", ids: None, channel: None }, &mut stream);
    }
    let mut group = criterion.benchmark_group("deframe 1,000 tokens");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    for (name, size) in [("in one piece", stream.len()), ("in packets of 1,400 bytes", 1400), ("byte by byte", 1)] {
        group.bench_function(name, |bencher| {
            let mut deframer = Deframer::default();
            bencher.iter(|| {
                let mut frames = 0;
                for mut piece in stream.chunks(size) {
                    while let Ok(Some(payload)) = deframer.next(&mut piece) {
                        black_box(payload);
                        frames += 1;
                    }
                }
                assert_eq!(frames, 1000);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
