//! Interner: one copy of equal names and tags for all engines of a simulation.
//!
//! Ten thousand engines in one process would keep ten thousand copies of each name and of all tags,
//! as each decodes its own. Sharing equal values changes no result.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::tags::Tags;
use crate::wire::{Claim, Record};

/// One copy of each name and of each set of tags.
#[derive(Clone, Debug, Default)]
pub struct Interner(Arc<Mutex<InternedValues>>);

#[derive(Debug, Default)]
struct InternedValues {
    names: HashMap<u64, Arc<str>>,
    tags: HashSet<Tags>,
}

impl Interner {
    /// The same record, made of shared values.
    pub fn record(&self, mut record: Record) -> Record {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = record.key();
        match pool.names.get(&key) {
            Some(name) if *name == record.name => record.name = name.clone(),
            _ => keep(&mut pool.names, key, record.name.clone()),
        }
        if let Claim::Alive(tags) = &mut record.claim {
            match pool.tags.get(tags) {
                Some(shared) => *tags = shared.clone(),
                None if pool.tags.len() < INTERNED_MAX => {
                    pool.tags.insert(tags.clone());
                }
                // Values in use stay with their users.
                None => pool.tags.clear(),
            }
        }
        record
    }
}

fn keep(names: &mut HashMap<u64, Arc<str>>, key: u64, name: Arc<str>) {
    if names.len() >= INTERNED_MAX {
        names.clear();
    }
    names.insert(key, name);
}

/// Most names, and most sets of tags.
const INTERNED_MAX: usize = 65_536;
