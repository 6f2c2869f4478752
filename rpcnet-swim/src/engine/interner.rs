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
        if pool.len() >= MEMBERS_SHARED_MAX && !pool.contains_key(&info.key) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::test_support::{alive, record};
    use crate::tags::Tags;

    #[test]
    fn a_full_pool_is_cleared_for_a_new_member_alone() {
        let info = |key| {
            let info = MemberInfo::new(&record("n", 1, 0, 1, alive()), Tags::new());
            Arc::new(MemberInfo { key, ..info })
        };
        let interner = Interner::default();
        let len = || interner.0.lock().unwrap().len();
        (0..MEMBERS_SHARED_MAX as u64).for_each(|key| interner.share(&mut info(key)));
        let (mut first, mut second) = (info(7), info(7));
        interner.share(&mut first);
        interner.share(&mut second);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(len(), MEMBERS_SHARED_MAX);
        interner.share(&mut info(u64::MAX));
        assert_eq!(len(), 1);
    }
}
