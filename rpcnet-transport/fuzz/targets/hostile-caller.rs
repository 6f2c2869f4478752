//! A server and a hostile caller.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::hostile_caller(data));
