//! Tests of the fuzz targets on their seeds and on mutations of them.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};

use super::*;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| fs::read(path).unwrap()).collect()
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
