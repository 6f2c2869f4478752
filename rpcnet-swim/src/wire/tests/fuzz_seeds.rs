//! Seeds of the fuzz targets, which are golden bytes of the wire format.

use std::fs;
use std::path::{Path, PathBuf};

use super::{encoded, messages, records};
use crate::key::{ClusterKey, KeyRing};
use crate::tags::Tags;
use crate::wire::{Envelope, Origin};

/// Where the seeds of a target lie. Not part of the published crate.
fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target)
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
             change, run RPCNET_WRITE_SEEDS=1 cargo test -p rpcnet-swim --lib wire"
        );
    }
}

fn sealed(keys: &[u8], body: &[u8]) -> Vec<u8> {
    let (mut datagram, counter) = (Vec::new(), 300);
    let origin = Origin {
        from: 1,
        epoch: 1 << 40,
        counter,
    };
    let keys = keys.iter().map(|byte| ClusterKey::from_bytes([*byte; 32]));
    let ring = KeyRing::new(keys).ok();
    Envelope::new("rpcnet", ring.as_ref(), 2)
        .seal(origin, &mut datagram, |out| out.extend_from_slice(body));
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
    let pairs = Tags::from_pairs([("role", "worker"), ("zone", "eu-1")]).unwrap();
    check_seeds("tags", &[("00".into(), pairs.encoded().to_vec())]);
    let body = &messages[0].1;
    let golden = [
        ("clear".into(), sealed(&[], body)),
        ("sealed".into(), sealed(&[3], body)),
    ];
    check_seeds("envelope", &golden);
}
