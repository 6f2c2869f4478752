//! Frames of lanes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::lane_frames(data));
