//! Who detects.

use rpcnet_swim::sim::Detector;

/// The detectors of these names.
///
/// # Panics
///
/// If there is none of a name.
pub(crate) fn detectors_named(names: &[&str]) -> Vec<Detector> {
    let named = |name: &&str| {
        Detector::named(name).unwrap_or_else(|| panic!("no detector is called {name}"))
    };
    names.iter().map(named).collect()
}

/// The name of ours.
pub(crate) const OURS: &str = "rpcnet";
