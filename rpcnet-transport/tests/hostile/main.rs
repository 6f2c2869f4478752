//! Peers that speak QUIC and TLS correctly and break the protocol on top, by random scripts.

mod harness;
mod trickle;

use proptest::{collection::vec, prelude::*};

use self::trickle::{Slow, trickling_server};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_server_survives_any_caller(script in vec(any::<u8>(), 0..1024)) {
        harness::hostile_caller(&script);
    }

    #[test]
    fn calls_end_with_any_behaviour_of_the_server(script in vec(any::<u8>(), 0..1024)) {
        harness::hostile_server(&script);
    }
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_they_arrive(bytes in vec(any::<u8>(), 0..512)) {
        harness::frames(&bytes);
    }

    #[test]
    fn frames_of_a_lane_do_not_depend_on_how_they_arrive(bytes in vec(any::<u8>(), 0..512)) {
        harness::lane_frames(&bytes);
    }

    #[test]
    fn headers_of_a_peer_are_valid_or_rejected(
        bytes in vec(prop_oneof![any::<u8>(), 0..4_u8], 0..64),
    ) {
        harness::headers(&bytes);
    }

    #[test]
    fn schemas_of_a_peer_are_compared_or_rejected(bytes in vec(any::<u8>(), 0..64)) {
        harness::schemas(&bytes);
    }

    #[test]
    fn values_with_names_are_decoded_or_rejected(
        bytes in vec(prop_oneof![any::<u8>(), 0x80..=0x9f_u8], 0..64),
    ) {
        harness::named_values(&bytes);
    }
}

#[test]
fn calls_without_a_deadline_end_when_their_replies_trickle() {
    for slow in [Slow::Isolated, Slow::Upload, Slow::Large] {
        trickling_server(slow);
    }
}

#[test]
fn the_reply_of_a_cancelled_call_is_read_for_a_bounded_time() {
    trickling_server(Slow::Cancelled);
}
