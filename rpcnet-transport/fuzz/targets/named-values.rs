//! Values of several types in the encoding with names.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpcnet_transport_fuzz::named_values(data));
