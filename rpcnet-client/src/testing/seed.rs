//! Seeds: where they come from, and how a failing one is repeated.

use std::{env, thread};

/// Seed of the run: that of the environment, if it names one, or the given one.
///
/// # Panics
///
/// If the variable is no number.
pub(super) fn seed_or_override(given: u64) -> u64 {
    overriding_seed().unwrap_or(given)
}

/// Seed that the environment names.
pub(super) fn overriding_seed() -> Option<u64> {
    let text = env::var(SEED_VARIABLE).ok()?;
    let seed = text.trim().parse();
    Some(seed.unwrap_or_else(|_| panic!("{SEED_VARIABLE} is no seed: {text:?}")))
}

/// Command that repeats the current test with this seed.
pub(super) fn repeat_command(seed: u64) -> String {
    let package = env::var("CARGO_PKG_NAME").ok();
    command(seed, package.as_deref(), thread::current().name())
}

fn command(seed: u64, package: Option<&str>, test: Option<&str>) -> String {
    let mut command = format!("{SEED_VARIABLE}={seed} cargo test");
    if let Some(package) = package {
        command += &format!(" -p {package}");
    }
    // The main thread runs the tests one after the other if there is one thread only.
    if let Some(test) = test.filter(|name| *name != "main") {
        command += &format!(" {test} -- --exact");
    }
    command
}

/// Number that belongs to the seed and these parts (SplitMix64: Steele, Lea, Flood, 2014).
pub(super) fn derive(seed: u64, parts: &[u64]) -> u64 {
    // The seed is mixed before its first part: seed 1 and part 2 are not seed 2 and part 1.
    let seed = mix(seed);
    parts.iter().fold(seed, |state, part| mix(state ^ part))
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Environment variable whose seed wins over that of the test.
const SEED_VARIABLE: &str = "RPCNET_TEST_SEED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_seed_package_and_test() {
        assert_eq!(
            command(7, Some("app"), Some("tests::survives")),
            "RPCNET_TEST_SEED=7 cargo test -p app tests::survives -- --exact"
        );
        assert_eq!(
            command(7, None, Some("main")),
            "RPCNET_TEST_SEED=7 cargo test"
        );
    }

    #[test]
    fn derived_numbers_differ_by_seed_and_part() {
        let all = [
            derive(1, &[1]),
            derive(1, &[2]),
            derive(2, &[1]),
            derive(1, &[1, 0]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one));
        }
        assert_eq!(derive(7, &[1, 2]), derive(7, &[1, 2]));
    }
}
