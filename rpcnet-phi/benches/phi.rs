//! Benchmarks of a heartbeat, of phi and of the next deadline.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use rpcnet_phi::{ModelKind, PhiConfig, PhiDetector};

fn detector(kind: ModelKind) -> PhiDetector {
    let mut detector = PhiDetector::new(PhiConfig::default().with_model(kind)).expect("defaults");
    for k in 0..100 {
        detector.heartbeat(Duration::from_millis(k * 1000 + k % 7 * 20));
    }
    detector
}

fn benches(criterion: &mut Criterion) {
    for (name, kind) in [
        ("normal", ModelKind::Normal),
        ("exponential", ModelKind::Exponential),
        ("loss_aware", ModelKind::LossAware { loss: 0.01 }),
    ] {
        let mut group = criterion.benchmark_group(name);
        let warm = detector(kind);
        group.bench_function("heartbeat", |bencher| {
            let (mut detector, mut now) = (warm, Duration::from_secs(100));
            bencher.iter(|| {
                now += Duration::from_millis(1010);
                detector.heartbeat(black_box(now));
            });
        });
        group.bench_function("phi", |bencher| {
            bencher.iter(|| black_box(warm).phi(black_box(Duration::from_millis(101_200))));
        });
        group.bench_function("phi_after_a_minute", |bencher| {
            bencher.iter(|| black_box(warm).phi(black_box(Duration::from_secs(160))));
        });
        group.bench_function("suspect_at", |bencher| {
            bencher.iter(|| black_box(warm).suspect_at(black_box(8.0)));
        });
        group.finish();
    }
}

criterion_group!(phi, benches);
criterion_main!(phi);
