//! Headers of calls: metadata and trace contexts.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::headers(data));
