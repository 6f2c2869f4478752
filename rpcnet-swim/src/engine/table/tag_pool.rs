//! Tag pool: one copy of tags that many members have.

use crate::tags::Tags;

/// The last different tags. Members of a cluster mostly differ in few of them: a role, a zone.
#[derive(Debug, Default)]
pub(super) struct TagPool {
    recent: Vec<Tags>,
    /// Index of the one that is replaced next.
    oldest: usize,
}

impl TagPool {
    /// The same tags, in the copy that other members have if there is one.
    pub(super) fn share(&mut self, tags: &Tags) -> Tags {
        if tags.is_empty() {
            return Tags::new();
        }
        if let Some(shared) = self.recent.iter().find(|shared| *shared == tags) {
            return shared.clone();
        }
        match self.recent.len() < POOL_LEN_MAX {
            true => self.recent.push(tags.clone()),
            false => {
                self.recent[self.oldest] = tags.clone();
                self.oldest = (self.oldest + 1) % POOL_LEN_MAX;
            }
        }
        tags.clone()
    }
}

/// Most tags in the pool.
const POOL_LEN_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_tags_are_shared_and_their_number_is_bounded() {
        let tags = |zone: usize| Tags::from_pairs([("zone", zone.to_string())]).unwrap();
        let is_same = |a: &Tags, b: &Tags| std::ptr::eq(a.encoded(), b.encoded());
        let mut pool = TagPool::default();
        let first = pool.share(&tags(0));
        assert!(is_same(&pool.share(&tags(0)), &first));
        (1..=POOL_LEN_MAX).for_each(|zone| drop(pool.share(&tags(zone))));
        assert_eq!(pool.recent.len(), POOL_LEN_MAX);
        // The oldest made way.
        let again = pool.share(&tags(0));
        assert!(again == first && !is_same(&again, &first));
        assert_eq!(pool.share(&Tags::new()), Tags::new());
    }
}
