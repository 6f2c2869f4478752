//! The selections of pingora-load-balancing.
//!
//! A pick is `LoadBalancer::select`: the selection of the current set of backends, the look whether
//! the backend is ready, and the copy of it that the caller gets. It keeps no account of calls, so
//! there is no more that a call pays.

use std::{collections::BTreeSet, hint::black_box, ops::Range};

use pingora_load_balancing::{
    Backend, Backends, LoadBalancer,
    discovery::Static,
    selection::{BackendIter, BackendSelection, Consistent, FNVHash, Random, RoundRobin},
};
use xtask_pick::{Subject, Work, key};

use crate::at_once;

struct Pingora<S: BackendSelection>(LoadBalancer<S>);

/// The selection of this name among so many workers.
pub(crate) fn subject(name: &str, workers: usize) -> Result<Box<dyn Subject>, String> {
    match name {
        "pingora-round-robin" => boxed::<RoundRobin>(workers, false),
        "pingora-random" => boxed::<Random>(workers, false),
        "pingora-weighted" => boxed::<RoundRobin>(workers, true),
        "pingora-fnv-hash" => boxed::<FNVHash>(workers, false),
        "pingora-ketama" => boxed::<Consistent>(workers, false),
        other => Err(format!("there is no peer {other:?}")),
    }
}

fn boxed<S>(workers: usize, weighted: bool) -> Result<Box<dyn Subject>, String>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let mut backends = BTreeSet::new();
    for number in 0..workers {
        let addr = format!("10.{}.{}.1:4433", number / 256, number % 256);
        // One part in three has twice or three times the weight, as with ours.
        let weight = if weighted { 1 + number % 3 } else { 1 };
        let backend = Backend::new_with_weight(&addr, weight);
        backends.insert(backend.map_err(|error| error.to_string())?);
    }
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(Static::new(backends)));
    at_once(balancer.update())?.map_err(|error| error.to_string())?;
    if balancer.select(b"any", ITERATIONS_MAX).is_none() {
        return Err("no backend is selected".to_owned());
    }
    Ok(Box::new(Pingora(balancer)))
}

impl<S> Subject for Pingora<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    fn batch(&self, work: Work, calls: Range<u64>, _alone: bool) -> Result<(), String> {
        if work != Work::Pick {
            return Err("it knows of picks only".to_owned());
        }
        for call in calls {
            let key = key(call).to_le_bytes();
            black_box(self.0.select(black_box(&key), ITERATIONS_MAX));
        }
        Ok(())
    }
}

/// Most iterations of a selection, as in pingora's documentation.
const ITERATIONS_MAX: usize = 256;
