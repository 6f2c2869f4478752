//! Interner: one copy of what is claimed of a member for all engines of a simulation.
//!
//! Ten thousand engines in one process would keep ten thousand copies of each name, of all tags and
//! of each address, as each decodes its own. Sharing equal values changes no result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::member_info::MemberInfo;

/// One copy of each version of each member.
#[derive(Clone, Debug, Default)]
pub struct Interner(Arc<Mutex<HashMap<u64, Vec<Arc<MemberInfo>>>>>);

impl Interner {
    /// Replaces a value by the one that is shared.
    pub(crate) fn share(&self, info: &mut Arc<MemberInfo>) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() >= MEMBERS_SHARED_MAX {
            // Values in use stay with their users.
            pool.clear();
        }
        let versions = pool.entry(info.key).or_default();
        match versions.iter().rev().find(|shared| *shared == info) {
            Some(shared) => *info = shared.clone(),
            None => {
                if versions.len() == VERSIONS_SHARED_MAX {
                    versions.remove(0);
                }
                versions.push(info.clone());
            }
        }
    }
}

/// Most members with shared values.
const MEMBERS_SHARED_MAX: usize = 65_536;
/// Most versions of one member that are shared: the latest ones.
const VERSIONS_SHARED_MAX: usize = 4;
