//! Harness of the fuzz targets, which the tests of the crate run too.

#[path = "../../tests/hostile/harness/mod.rs"]
mod harness;

/// Decodes the bytes of a stream of each kind, in any pieces.
pub fn frames(bytes: &[u8]) {
    harness::frames(bytes);
}

/// Decodes the bytes of a lane, in any pieces.
pub fn lane_frames(bytes: &[u8]) {
    harness::lane_frames(bytes);
}

/// Decodes the metadata and the trace context of a call.
pub fn headers(bytes: &[u8]) {
    harness::headers(bytes);
}

/// Decodes and compares two schemas.
pub fn schemas(bytes: &[u8]) {
    harness::schemas(bytes);
}

/// Decodes values of several types in the encoding with names.
pub fn named_values(bytes: &[u8]) {
    harness::named_values(bytes);
}

/// Runs a scripted caller against a server, which has to survive it.
pub fn hostile_caller(script: &[u8]) {
    harness::hostile_caller(script);
}

/// Runs a scripted server against a caller, whose calls have to end.
pub fn hostile_server(script: &[u8]) {
    harness::hostile_server(script);
}
