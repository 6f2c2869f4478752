//! Datagrams as they come from the network, in clear and sealed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_swim_sim::fuzzing::envelope(data));
