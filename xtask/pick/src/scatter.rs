//! Scattered memory, as in a process that has run for a while.

/// Memory between what is allocated one after the other. To be kept for as long as that.
#[derive(Debug, Default)]
pub struct Padding(Vec<Box<[u8]>>);

impl Padding {
    /// A piece of up to a KiB, its size by chance.
    pub fn add(&mut self, number: u64) {
        let bytes = key(number ^ PADDING_SEED) % 1024;
        self.0.push(vec![0; bytes as usize].into());
    }
}

/// Brings them into an order that only chance knows, the same each time.
pub fn shuffle<T>(items: &mut [T]) {
    for at in (1..items.len()).rev() {
        let with = key(at as u64) % (at as u64 + 1);
        items.swap(at, with as usize);
    }
}

/// Key of the call of this number: a hash (splitmix64) of one of `KEYS` numbers.
pub fn key(call: u64) -> u64 {
    let mut z = (call % KEYS)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Number of different keys.
pub(crate) const KEYS: u64 = 1 << 16;

const PADDING_SEED: u64 = 0x5eed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_all_items() {
        let mut numbers: Vec<u32> = (0..1000).collect();
        shuffle(&mut numbers);
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..1000));
    }

    #[test]
    fn keys_repeat() {
        assert_eq!(key(7), key(7 + KEYS));
        assert_ne!(key(7), key(8));
    }
}
