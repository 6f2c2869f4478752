//! Stateless reset key that a restarted node derives again.

use std::{fmt, net::SocketAddr, sync::Arc};

use quinn::{
    ConnectionId, ConnectionIdGenerator,
    crypto::{CryptoError, HmacKey},
};
use rustls::crypto::{
    CryptoProvider, SecureRandom,
    tls13::{Hkdf, OkmBlock},
};

/// Key of stateless resets that outlives the process: derived from the node's private key, the host
/// and the port.
///
/// With it a restarted node recognises packets of connections that it has forgotten, and ends them
/// with a stateless reset (RFC 9000 section 10.3), so that callers need not wait for the idle
/// timeout. Endpoints that share a key could be made to reset each other's connections (section
/// 21.11). So the port is part of it; the host, because hosts that share a private key may all be
/// bound to the same unspecified address; and the shard, whose connections the other shards of the
/// port do not know. Where the host has no identity that survives a restart, the key is a new one
/// each time.
#[derive(Clone)]
pub(crate) struct ResetKey {
    hkdf: &'static dyn Hkdf,
    random: &'static dyn SecureRandom,
    key: Arc<OkmBlock>,
}

impl ResetKey {
    pub(super) fn new(
        provider: &CryptoProvider,
        secret: &[u8],
        host: Option<&[u8]>,
        port: SocketAddr,
        shard: usize,
    ) -> Self {
        let mut suites = provider.cipher_suites.iter();
        let suite = suites.find_map(|suite| suite.tls13());
        let hkdf = suite
            .expect("the ring provider speaks TLS 1.3")
            .hkdf_provider;
        let random = provider.secure_random;
        let mut once = [0; 32];
        let host = host.unwrap_or_else(|| {
            random
                .fill(&mut once)
                .expect("the operating system has randomness");
            &once
        });
        let expander = hkdf.extract_from_secret(Some(LABEL), secret);
        // The first shard has the key of a port without shards.
        let port_and_shard = match shard {
            0 => port.to_string(),
            shard => format!("{port}/{shard}"),
        };
        let key = Arc::new(expander.expand_block(&[port_and_shard.as_bytes(), b"@", host]));
        Self { hkdf, random, key }
    }
}

/// Signs the tokens of stateless resets.
impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(self.hkdf.hmac_sign(&self.key, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        self.hkdf.hmac_sign(&self.key, &[]).as_ref().len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = self.hkdf.hmac_sign(&self.key, data);
        let expected = expected.as_ref();
        // Compares every byte, so that the time reveals nothing about the first wrong one.
        let differences = expected
            .iter()
            .zip(signature)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        if expected.len() == signature.len() && differences == 0 {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

/// Generates random connection ids. Ids of an earlier life of the node must not be told from
/// others, as QUIC's default does: an id that is recognised as invalid is not reset.
impl ConnectionIdGenerator for ResetKey {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        self.random
            .fill(&mut id)
            .expect("the operating system has randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetKey").finish_non_exhaustive()
    }
}

const LABEL: &[u8] = b"rpcnet/1 stateless reset";
const ID_BYTES: usize = 8;
