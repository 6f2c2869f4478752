//! A client and a server that lies.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::lying_server(data));
