//! Engines under attack, by operations.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rpcnet_swim_sim::fuzzing::{self, Operation};

fuzz_target!(|operations: Vec<Operation>| fuzzing::engine(&operations));
