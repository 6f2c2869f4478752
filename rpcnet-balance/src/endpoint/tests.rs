//! What an endpoint knows about itself.

use super::*;

#[test]
fn a_call_is_counted_for_as_long_as_its_guard_lives() {
    let endpoint = Arc::new(Endpoint::new(7));
    let (first, second) = (endpoint.begin(), endpoint.begin());
    assert_eq!(endpoint.in_flight(), 2);
    assert_eq!(first.endpoint().id(), 7);
    drop(first);
    assert_eq!(endpoint.in_flight(), 1);
    // Also when the call ends by a panic, on another thread.
    let ended = std::thread::spawn(move || {
        let _second = second;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(ended.join().is_err());
    assert_eq!(endpoint.in_flight(), 0);
}

#[test]
fn slow_is_what_was_noted_last() {
    let endpoint = Endpoint::new(7);
    assert!(!endpoint.is_slow());
    endpoint.note_slow(true);
    assert!(endpoint.is_slow());
    endpoint.note_slow(false);
    assert!(!endpoint.is_slow());
}

#[test]
fn a_weight_is_always_usable() {
    for (given, taken) in [
        (f32::NAN, 1.0),
        (-1.0, 0.001),
        (0.0, 0.001),
        (f32::INFINITY, 1000.0),
        (2.5, 2.5),
    ] {
        assert_eq!(Endpoint::new(0).with_weight(given).weight(), taken);
    }
    assert_eq!(Endpoint::new(0).with_weight(2.0).load(), 0.5);
}

#[test]
fn endpoints_do_not_share_cache_lines_and_a_pick_reads_one() {
    assert_eq!((align_of::<Endpoint>(), size_of::<Endpoint>()), (128, 128));
    assert_eq!(std::mem::offset_of!(Endpoint, id), 64);
}
