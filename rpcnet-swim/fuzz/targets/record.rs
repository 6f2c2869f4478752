//! Records of members: names, addresses, tags, suspectors.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_swim_sim::fuzzing::record(data));
