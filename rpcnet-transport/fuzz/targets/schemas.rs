//! Two schemas, and their comparison.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::schemas(data));
