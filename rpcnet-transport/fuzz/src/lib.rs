//! The harness of the fuzz targets, which the tests of the crate run too.

#[path = "../../tests/liar/harness/mod.rs"]
mod harness;

/// Bytes of a stream of any kind, however they arrive.
pub fn frames(bytes: &[u8]) {
    harness::frames(bytes);
}

/// Bytes of a lane, however they arrive.
pub fn lane_frames(bytes: &[u8]) {
    harness::lane_frames(bytes);
}

/// A caller that does what the script says, and a server that has to outlive it.
pub fn lying_caller(script: &[u8]) {
    harness::lying_caller(script);
}

/// A server that does what the script says, and a caller whose calls have to end.
pub fn lying_server(script: &[u8]) {
    harness::lying_server(script);
}
