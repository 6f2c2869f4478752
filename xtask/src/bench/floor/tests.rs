//! Exchanges in one process.

use xtask_load::{Phase, Runtime};

use super::*;
use crate::bench::{
    subjects::OURS,
    tests::{report, row},
};

fn setup(subject: &str, body_bytes: usize, in_flight: usize) -> Setup {
    Setup {
        subject: subject.to_owned(),
        keys: "none".into(),
        ip: [127, 0, 0, 1].into(),
        core: None,
        runtime: Runtime::Current,
        in_flight,
        body_bytes,
        connections: 0,
        early_data: false,
    }
}

/// Calls until a thousand have ended.
async fn exchange(subject: &str, body_bytes: usize, in_flight: usize) -> u64 {
    let setup = setup(subject, body_bytes, in_flight);
    let (address, server) = Floor::serve(&setup).await.unwrap();
    let caller = Floor::client(&setup)
        .unwrap()
        .connect(address)
        .await
        .unwrap();
    let load = Load {
        body_bytes,
        in_flight,
        ..Load::default()
    };
    let state = Arc::new(ClosedLoopState::default());
    state.begin(Phase::Window);
    let calls = tokio::spawn(caller.closed_loop(load, &state).unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
    while state.calls() == 0 {
        tokio::task::yield_now().await;
    }
    state.begin(Phase::Over);
    let ended = calls.await.unwrap().unwrap();
    server.abort();
    ended
}

#[tokio::test]
async fn short_calls_are_batched_and_long_ones_are_split() {
    for subject in [FLOOR, FLOOR_SEALED] {
        for (body_bytes, in_flight) in [(8, 1), (32, 100), (1 << 20, 2)] {
            let ended = exchange(subject, body_bytes, in_flight).await;
            assert!(ended > 0, "{subject} {body_bytes} B x {in_flight}");
        }
    }
}

#[test]
fn a_row_is_compared_with_the_floor_of_its_cell() {
    let mut rows = [
        row(FLOOR, (32, 64), 1000, 10.0),
        row(OURS, (32, 64), 400, 25.0),
        row(OURS, (1024, 64), 400, 25.0),
    ];
    rows[1].reports.push(report(400, 25.0));
    compare(&mut rows);
    assert_eq!((rate(&rows[1]), p50(&rows[1])), (Some(0.4), Some(2.5)));
    assert_eq!((rate(&rows[0]), cpu(&rows[0])), (Some(1.0), Some(1.0)));
    assert_eq!(rate(&rows[2]), None);
}
