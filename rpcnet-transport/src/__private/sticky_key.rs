//! Sticky keys from arguments.

use serde::Serialize;

use crate::codec::to_postcard;

/// Sticky key of an argument: the same for equal arguments in every process.
///
/// An argument that postcard cannot carry has the key 0: the call fails for that reason.
pub fn sticky_key<T: Serialize>(argument: &T) -> u64 {
    let Ok(bytes) = to_postcard(argument) else {
        return 0;
    };
    // FNV-1a, and the finalizer of MurmurHash3, since balancers look at all bits.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash: u64 = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arguments_have_one_key_that_no_release_changes() {
        assert_eq!(sticky_key(&7_u64), sticky_key(&7_u16));
        assert_ne!(sticky_key(&7_u64), sticky_key(&8_u64));
        assert_eq!(sticky_key(&"tenant"), sticky_key(&"tenant".to_owned()));
        assert_eq!(sticky_key(&"tenant"), 0x7d69_d0f7_5bf1_0b09);
    }
}
