//! Engine seed: where the random choices of an engine come from, and its secrets.

use std::fmt;

use super::prf::PrfKey;

/// Seed of an [`Engine`](crate::Engine): of its random choices, and of its secrets.
///
/// Others see results of the random choices, such as nonces, and could compute the generator's
/// state from them. The secrets, of which none can be computed from what others see, are behind the
/// cookies of joining and the engine's hash tables. A node of production draws both parts from the
/// operating system, as `ClusterMembership` does; a simulation, which
/// is to be repeated and has nothing to hide, takes both from one number.
#[derive(Clone)]
pub struct EngineSeed {
    /// Seed of the random choices.
    pub(super) choices: u64,
    secret: PrfKey,
}

impl EngineSeed {
    /// The seed with these two parts, which should be independent of each other.
    #[must_use]
    pub const fn new(choices: u64, secret: [u8; 32]) -> Self {
        Self {
            choices,
            secret: PrfKey::new(secret),
        }
    }

    /// Key of the engine's hash tables.
    pub(super) fn hash_seed(&self) -> u64 {
        self.secret.value(b"hash tables             ")
    }

    /// Key of the cookies.
    pub(super) fn cookie_key(&self) -> PrfKey {
        self.secret.derive(b"cookies                 ")
    }
}

/// Seed for tests and simulations: the secrets follow from the seed of the random choices.
impl From<u64> for EngineSeed {
    fn from(choices: u64) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&choices.to_le_bytes());
        Self::new(choices, secret)
    }
}

impl fmt::Debug for EngineSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineSeed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_follow_from_the_secret_alone_and_differ() {
        let (a, b) = (EngineSeed::new(1, [7; 32]), EngineSeed::new(2, [7; 32]));
        assert_eq!(a.hash_seed(), b.hash_seed());
        let cookie = |seed: &EngineSeed| seed.cookie_key().value(&[0; 24]);
        assert_eq!(cookie(&a), cookie(&b));
        let other = EngineSeed::new(1, [8; 32]);
        assert!(a.hash_seed() != other.hash_seed() && cookie(&a) != cookie(&other));
        assert_eq!(
            EngineSeed::from(7).hash_seed(),
            EngineSeed::from(7).hash_seed()
        );
        assert_ne!(
            EngineSeed::from(7).hash_seed(),
            EngineSeed::from(8).hash_seed()
        );
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert_eq!(format!("{:?}", EngineSeed::from(7)), "EngineSeed { .. }");
        assert_eq!(format!("{:?}", PrfKey::new([7; 32])), "PrfKey { .. }");
    }
}
