//! Tests of the fuzz targets on their seeds, which are the golden bytes of the wire format.

use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};

use super::*;
use crate::wire::tests::{messages, records};

/// Where the seeds of a target lie. Not part of the published crate.
fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target)
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(target)) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| fs::read(path).unwrap()).collect()
}

/// Compares the seeds with what they should be, or writes them with `RPCNET_WRITE_SEEDS=1`.
fn check_seeds(target: &str, golden: &[(String, Vec<u8>)]) {
    let folder = folder(target);
    if std::env::var_os("RPCNET_WRITE_SEEDS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in golden {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    if !folder.is_dir() {
        return;
    }
    for (name, bytes) in golden {
        let seed = fs::read(folder.join(name)).unwrap_or_default();
        assert!(
            seed == *bytes,
            "{target}/{name} is not what the code encodes: if the wire format was meant to \
             change, run RPCNET_WRITE_SEEDS=1 cargo test -p rpcnet-swim --lib fuzzing"
        );
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fn sealed(keys: &[u8], body: &[u8]) -> Vec<u8> {
    let (mut datagram, counter) = (Vec::new(), 300);
    let origin = Origin {
        from: 1,
        epoch: 1 << 40,
        counter,
    };
    sealed_by(keys).seal(origin, &mut datagram, |out| out.extend_from_slice(body));
    datagram
}

#[test]
fn the_seeds_are_the_golden_bytes() {
    let messages: Vec<_> = messages()
        .iter()
        .enumerate()
        .map(|(n, message)| (format!("{n:02}"), encoded(message)))
        .collect();
    check_seeds("message", &messages);
    let golden = records().into_iter().enumerate().map(|(n, record)| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        (format!("{n:02}"), bytes)
    });
    check_seeds("record", &golden.collect::<Vec<_>>());
    let pairs = OneMemberTable::default().tags;
    check_seeds("tags", &[("00".into(), pairs.encoded().to_vec())]);
    let body = &messages[0].1;
    let golden = [
        ("clear".into(), sealed(&[], body)),
        ("sealed".into(), sealed(&[3], body)),
    ];
    check_seeds("envelope", &golden);
}

#[test]
fn every_target_accepts_its_seeds_and_mutations_of_them() {
    type Target = fn(&[u8]);
    let targets: [(&str, Target); 5] = [
        ("message", message),
        ("record", record),
        ("tags", tags),
        ("envelope", envelope),
        ("engine", |data| {
            // As the target reads its input.
            let operations = Vec::<Operation>::arbitrary_take_rest(Unstructured::new(data));
            engine(&operations.unwrap_or_default());
        }),
    ];
    let mut rng = fastrand::Rng::with_seed(1);
    for (name, target) in targets {
        for seed in seeds(name) {
            target(&seed);
            let mut changed = seed;
            for _ in 0..8 {
                let at = rng.usize(..changed.len().max(1));
                if let Some(byte) = changed.get_mut(at) {
                    *byte = rng.u8(..);
                }
                target(&changed);
            }
        }
        for len in 0..64 {
            let bytes: Vec<u8> = (0..len * 8).map(|_| rng.u8(..)).collect();
            target(&bytes);
        }
    }
}
