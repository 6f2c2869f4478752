//! Subjects of the benchmarks.

use std::error::Error;

use self::SubjectKind::{Floor, Large, Ours, Peer, PeerVariant, Variant};
use super::options::Options;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) kind: SubjectKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubjectKind {
    /// This workspace.
    Ours,
    /// This workspace, with its settings for large bodies, which are all that it is measured with.
    Large,
    /// This workspace, used in another way than by default.
    Variant,
    /// Bare datagrams: what the machine allows.
    Floor,
    /// The detached workspace.
    Peer,
    /// The detached workspace, used in another way than most do.
    PeerVariant,
}

impl Subject {
    pub(crate) const fn new(name: &'static str, kind: SubjectKind) -> Self {
        Self { name, kind }
    }

    pub(crate) fn is_peer(self) -> bool {
        matches!(self.kind, Peer | PeerVariant)
    }

    /// Whether it is measured with bodies of this size.
    pub(crate) fn takes(self, payload_bytes: usize) -> bool {
        match self.name {
            TYPED => payload_bytes == TYPED_BODY_BYTES,
            FLOOR | FLOOR_SEALED => payload_bytes <= FLOOR_BODY_BYTES_MAX,
            _ => self.kind != Large || payload_bytes >= LARGE_BODY_BYTES_MIN,
        }
    }

    /// Whether its failures are recorded instead of ending the run. There is one that was published
    /// with limits.
    pub(crate) fn may_fail(self) -> bool {
        self.name == RPCNET_0_1_0
    }
}

/// Subjects that the options name, else those of `usual` that they ask for; of all if it is empty.
/// Rpcnet is the first.
pub(crate) fn select(options: &Options, usual: &[&str]) -> Result<Vec<Subject>, Box<dyn Error>> {
    let names = &options.subject;
    if let Some(unknown) = names.iter().find(|name| named(name).is_none()) {
        let all: Vec<_> = ALL.iter().map(|it| it.name).collect();
        return Err(format!("there is no subject {unknown:?}, only {}", all.join(", ")).into());
    }
    let wanted = |subject: &&Subject| {
        if !names.is_empty() {
            names.iter().any(|name| name == subject.name)
        } else if !usual.is_empty() {
            usual.contains(&subject.name) && (options.peers || !subject.is_peer())
        } else {
            matches!(subject.kind, Ours | Large | Floor) || options.peers && subject.kind == Peer
        }
    };
    Ok(ALL.iter().filter(wanted).copied().collect())
}

pub(crate) fn named(name: &str) -> Option<Subject> {
    ALL.iter().find(|it| it.name == name).copied()
}

pub(crate) const ALL: &[Subject] = &[
    Subject::new(OURS, Ours),
    Subject::new(FLOOR, Floor),
    Subject::new(FLOOR_SEALED, Floor),
    Subject::new(BULK, Large),
    Subject::new(ISOLATED, Variant),
    Subject::new(SHARDS, Variant),
    Subject::new(TYPED, Variant),
    Subject::new(RPCNET_0_1_0, Peer),
    Subject::new(TONIC, Peer),
    Subject::new(TARPC_TLS, Peer),
    Subject::new(TARPC, Peer),
    Subject::new("tarpc-tcp-inline", PeerVariant),
    Subject::new(QUINN, Peer),
    Subject::new(IRPC, Peer),
    Subject::new(IRPC_RPC, PeerVariant),
    Subject::new(FRAMES, PeerVariant),
];

/// Rpcnet with its defaults.
pub(crate) const OURS: &str = "rpcnet";

/// Bare UDP datagrams.
pub(crate) const FLOOR: &str = "floor-udp";

/// Longest body that the floor exchanges.
pub(crate) const FLOOR_BODY_BYTES_MAX: usize = 2 << 20;

/// UDP datagrams with AES-128-GCM on each.
pub(crate) const FLOOR_SEALED: &str = "floor-aes-gcm";

/// Rpcnet with the preset for large bodies: larger packets and windows.
pub(crate) const BULK: &str = "rpcnet-bulk";

const LARGE_BODY_BYTES_MIN: usize = 64 * 1024;

/// Rpcnet with a stream for each call.
pub(crate) const ISOLATED: &str = "rpcnet-isolated";

/// Rpcnet with a server that has a thread and a socket for each core.
pub(crate) const SHARDS: &str = "rpcnet-shards";

/// Rpcnet with a typed method, whose messages have one size.
pub(crate) const TYPED: &str = "rpcnet-typed";

/// Size of the messages of the typed method.
pub(crate) const TYPED_BODY_BYTES: usize = 32;

/// gRPC over HTTP/2.
pub(crate) const TONIC: &str = "tonic-tls";

/// QUIC library of rpcnet, used directly.
pub(crate) const QUINN: &str = "quinn-stream";

/// The published rpcnet.
pub(crate) const RPCNET_0_1_0: &str = "rpcnet-0.1.0";

/// tarpc over plain TCP.
pub(crate) const TARPC: &str = "tarpc-tcp";

/// tarpc over mutual TLS.
pub(crate) const TARPC_TLS: &str = "tarpc-tls";

/// irpc over QUIC, requests with numbers in one stream.
pub(crate) const IRPC: &str = "irpc";

/// irpc over QUIC, a stream for each call.
pub(crate) const IRPC_RPC: &str = "irpc-rpc";

/// Frames over plain TCP, which are streams alone.
pub(crate) const FRAMES: &str = "frames-tcp";

/// Subjects of calls other than the floor.
pub(crate) const CALLS: &[&str] = &[
    OURS,
    BULK,
    RPCNET_0_1_0,
    TONIC,
    TARPC_TLS,
    TARPC,
    QUINN,
    IRPC,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::parse;

    fn names(arguments: &[&str]) -> Vec<&'static str> {
        let chosen = select(&parse(arguments).unwrap(), &[]).unwrap();
        chosen.iter().map(|it| it.name).collect()
    }

    #[test]
    fn peers_and_variants_are_asked_for() {
        assert_eq!(
            names(&[]),
            ["rpcnet", "floor-udp", "floor-aes-gcm", "rpcnet-bulk"]
        );
        assert_eq!(
            names(&["--peers"]),
            [
                "rpcnet",
                "floor-udp",
                "floor-aes-gcm",
                "rpcnet-bulk",
                "rpcnet-0.1.0",
                "tonic-tls",
                "tarpc-tls",
                "tarpc-tcp",
                "quinn-stream",
                "irpc"
            ]
        );
        assert_eq!(
            names(&["--subject", "tarpc-tcp,rpcnet-isolated"]),
            ["rpcnet-isolated", "tarpc-tcp"]
        );
    }

    #[test]
    fn a_mode_has_usual_subjects() {
        let names = |arguments: &[&str]| -> Vec<&'static str> {
            let chosen = select(&parse(arguments).unwrap(), &[OURS, ISOLATED, QUINN]).unwrap();
            chosen.iter().map(|it| it.name).collect()
        };
        assert_eq!(names(&[]), [OURS, ISOLATED]);
        assert_eq!(names(&["--peers"]), [OURS, ISOLATED, QUINN]);
        assert_eq!(names(&["--subject", "tonic-tls"]), [TONIC]);
    }

    #[test]
    fn an_unknown_subject_is_an_error_with_the_known_ones() {
        let error = select(&parse(&["--subject", "grpc"]).unwrap(), &[]).unwrap_err();
        assert!(error.to_string().contains("tonic-tls"), "{error}");
    }
}
