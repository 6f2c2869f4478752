//! Frames of calls, of every kind of stream.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::frames(data));
