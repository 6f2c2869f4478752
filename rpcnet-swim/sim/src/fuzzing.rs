//! Bodies of the fuzz targets of rpcnet-swim: decoders that round-trip, and engines under attack.

mod attacker;
mod harness;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::harness::{Operation, engine};
use rpcnet_swim::unstable::{
    Envelope, GossipMessage, KnownMembers, Malformed, NoKnownMembers, OpenError, Origin, Reader,
    Record, decode_tags, encoded_tags,
};
use rpcnet_swim::{ClusterKey, KeyRing, Tags};

/// Fuzz target of message bodies: all payloads, sync pages and records among them. A message that
/// decodes encodes to the same message, and decodes to the same when its member is known already.
pub fn message(data: &[u8]) {
    let decoded = decode(data, &NoKnownMembers);
    assert_eq!(decoded, decode(data, &OneMemberTable::default()));
    if let Ok(message) = &decoded {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(decode(&encoded, &NoKnownMembers), decoded);
    }
}

/// Fuzz target of records: name, address, tags, suspectors. A record that decodes encodes to the
/// same record.
pub fn record(data: &[u8]) {
    let decoded = Record::decode(&mut Reader::new(data), &NoKnownMembers);
    let again = Record::decode(&mut Reader::new(data), &OneMemberTable::default());
    assert_eq!(decoded, again);
    if let Ok(record) = &decoded {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        let again = Record::decode(&mut Reader::new(&encoded), &NoKnownMembers);
        assert_eq!(again, decoded);
    }
}

/// Fuzz target of tags: tags that decode could have been made by `Tags::from_pairs`.
pub fn tags(data: &[u8]) {
    let Ok(tags) = decode_tags(data) else {
        return;
    };
    assert_eq!(encoded_tags(&tags), data);
    assert_eq!(Tags::from_pairs(tags.iter()).as_ref(), Ok(&tags));
    for (key, value) in tags.iter() {
        assert_eq!(tags.get(key), Some(value));
        assert_eq!(tags.without(key).get(key), None);
    }
}

/// Fuzz target of envelopes: opens a datagram in clear and sealed, then seals it as a body. Only a
/// sealed one opens.
pub fn envelope(data: &[u8]) {
    let clear = sealed_by(&[]);
    let mut datagram = data.to_vec();
    if let Ok((origin, body, None)) = clear.open(&mut datagram) {
        let (mut again, body) = (Vec::new(), body.to_vec());
        clear.seal(origin, &mut again, |out| out.extend_from_slice(&body));
        assert_eq!(again, data);
    }

    let ring = sealed_by(&[1, 2]);
    let opened = ring.open(&mut data.to_vec()).map(|_| ());
    assert!(opened.is_err(), "a seal without the key");

    let origin = Origin {
        from: data.len() as u64,
        epoch: data.iter().map(|byte| u64::from(*byte)).sum(),
        counter: u64::MAX / (data.len() as u64 + 1),
    };
    for sealer in [sealed_by(&[1]), sealed_by(&[2])] {
        let mut sealed = Vec::new();
        sealer.seal(origin, &mut sealed, |out| out.extend_from_slice(data));
        assert!(sealed.len() <= data.len() + sealer.overhead());
        let at = origin.epoch as usize % sealed.len();
        let mut changed = sealed.clone();
        changed[at] ^= 1 << (data.len() % 8);
        assert!(ring.open(&mut changed).is_err(), "byte {at} changed");
        let opened = ring.open(&mut sealed);
        assert_eq!(opened.map(|(o, body, _)| (o, body)), Ok((origin, data)));
    }
    let mut unknown = Vec::new();
    sealed_by(&[3]).seal(origin, &mut unknown, |out| out.extend_from_slice(data));
    assert_eq!(ring.open(&mut unknown), Err(OpenError::UnknownKey));
}

fn decode(body: &[u8], known: &impl KnownMembers) -> Result<GossipMessage, Malformed> {
    GossipMessage::decode(body, known, &mut Vec::new())
}

/// The envelope of one cluster under the keys of these bytes, in clear with none.
fn sealed_by(keys: &[u8]) -> Envelope {
    let keys = keys.iter().map(|byte| ClusterKey::from_bytes([*byte; 32]));
    let ring = KeyRing::new(keys).ok();
    Envelope::new("rpcnet", ring.as_ref(), 2)
}

/// Known members: one, which has the name and the tags of the seeds.
struct OneMemberTable {
    name: Arc<str>,
    tags: Tags,
}

impl Default for OneMemberTable {
    fn default() -> Self {
        let tags = Tags::from_pairs([("role", "worker"), ("zone", "eu-1")]);
        Self {
            name: "n-1".into(),
            tags: tags.expect("they are short"),
        }
    }
}

impl KnownMembers for OneMemberTable {
    fn by_name(&self, name: &str) -> Option<(&Arc<str>, &Tags)> {
        (name == &*self.name).then_some((&self.name, &self.tags))
    }
}
