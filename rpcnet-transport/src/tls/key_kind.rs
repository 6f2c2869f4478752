//! Kinds of keys: which are supported, and the names of the others in errors.

use std::ops::RangeInclusive;

use rustls_pki_types::PrivateKeyDer;

use super::der::{BIT_STRING, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, TAGGED_0, expect};

/// Supported kinds, as an error recommends them.
pub(super) const SUPPORTED: &str = "ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits";

/// Kind of a private key with which nodes cannot sign; `None` if it is supported or unreadable.
pub(super) fn unsupported_private_key(key: &PrivateKeyDer<'_>) -> Option<String> {
    match key {
        PrivateKeyDer::Pkcs1(key) => rsa_private(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => {
            let (key, _) = expect(key.secret_sec1_der(), SEQUENCE)?;
            let (_, rest) = expect(key, INTEGER)?;
            let (_, rest) = expect(rest, OCTET_STRING)?;
            let (parameters, _) = expect(rest, TAGGED_0)?;
            curve(parameters)
        }
        PrivateKeyDer::Pkcs8(key) => {
            let (key, _) = expect(key.secret_pkcs8_der(), SEQUENCE)?;
            let (_, rest) = expect(key, INTEGER)?;
            let (algorithm, rest) = expect(rest, SEQUENCE)?;
            match expect(algorithm, OBJECT_ID)?.0 {
                RSA => rsa_private(expect(rest, OCTET_STRING)?.0),
                _ => other(algorithm),
            }
        }
        _ => None,
    }
}

/// Kind of the key in a `SubjectPublicKeyInfo` (RFC 5280 section 4.1) whose signatures cannot be
/// verified; `None` if it is supported or unreadable.
pub(super) fn unsupported_public_key(info: &[u8]) -> Option<String> {
    let (algorithm, rest) = expect(info, SEQUENCE)?;
    if expect(algorithm, OBJECT_ID)?.0 != RSA {
        return other(algorithm);
    }
    let (key, _) = expect(rest, BIT_STRING)?;
    // The first byte says how many bits of the last one are unused.
    let (key, _) = expect(key.get(1..)?, SEQUENCE)?;
    rsa(expect(key, INTEGER)?.0, RSA_VERIFIED_BITS)
}

fn rsa_private(key: &[u8]) -> Option<String> {
    let (key, _) = expect(key, SEQUENCE)?;
    let (_, rest) = expect(key, INTEGER)?;
    rsa(expect(rest, INTEGER)?.0, RSA_SIGNED_BITS)
}

fn rsa(modulus: &[u8], supported: RangeInclusive<usize>) -> Option<String> {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    let bits = (modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
    (!supported.contains(&bits)).then(|| format!("RSA of {bits} bits"))
}

/// Kind of a key that is not RSA, if it is not supported.
fn other(algorithm: &[u8]) -> Option<String> {
    let (id, parameters) = expect(algorithm, OBJECT_ID)?;
    let name = match id {
        ED25519 => return None,
        EC => return curve(parameters),
        [0x2b, 0x65, 0x71] => "Ed448",
        [0x2b, 0x65, 0x6e] => "X25519",
        [0x2b, 0x65, 0x6f] => "X448",
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01] => "DSA",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => "RSA-PSS",
        _ => "another algorithm",
    };
    Some(name.to_owned())
}

fn curve(parameters: &[u8]) -> Option<String> {
    let name = match expect(parameters, OBJECT_ID)?.0 {
        P_256 | P_384 => return None,
        [0x2b, 0x81, 0x04, 0x00, 0x23] => "P-521",
        [0x2b, 0x81, 0x04, 0x00, 0x21] => "P-224",
        [0x2b, 0x81, 0x04, 0x00, 0x0a] => "secp256k1",
        _ => "another curve",
    };
    Some(format!("ECDSA on {name}"))
}

/// Sizes with which the TLS library signs.
const RSA_SIGNED_BITS: RangeInclusive<usize> = 2_048..=4_096;

/// Sizes that it verifies.
const RSA_VERIFIED_BITS: RangeInclusive<usize> = 2_048..=8_192;

/// 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// 1.2.840.10045.2.1.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// 1.2.840.10045.3.1.7.
const P_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// 1.3.132.0.34.
const P_384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
