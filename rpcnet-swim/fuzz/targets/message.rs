//! Bodies of datagrams: every payload.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_swim_sim::fuzzing::message(data));
