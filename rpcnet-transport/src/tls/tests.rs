//! Tests of identities: valid ones, and each kind of invalid one.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn make(cert: &str, key: &str, ca: &str) -> Result<Tls, TlsError> {
    Tls::from_pem(cert.as_bytes(), key.as_bytes(), ca.as_bytes())
}

#[test]
fn the_node_is_named_by_its_certificate() {
    let tls = DevCa::new("test").issue("node-1").unwrap();
    assert_eq!(tls.node_name(), "node-1");
}

#[test]
fn every_invalid_part_is_named() {
    let (ca, other) = (DevCa::new("test"), DevCa::new("other"));
    let node = ca.issue_pem("node-1").unwrap();
    let stranger = other.issue_pem("node-1").unwrap();

    assert!(matches!(
        make("", &node.key, &node.ca),
        Err(TlsError::Empty(TlsPart::Certificate))
    ));
    assert!(matches!(
        make(&node.cert, "", &node.ca),
        Err(TlsError::Empty(TlsPart::Key))
    ));
    assert!(matches!(
        make(&node.cert, &node.key, ""),
        Err(TlsError::Empty(TlsPart::Authority))
    ));
    assert!(matches!(
        make(&node.cert, &stranger.key, &node.ca),
        Err(TlsError::KeyMismatch)
    ));
    assert!(matches!(
        make(&node.cert, &node.key, other.ca_pem()),
        Err(TlsError::UnknownIssuer)
    ));
    let damaged = node.cert.replacen("MII", "!!!", 1);
    assert!(matches!(
        make(&damaged, &node.key, &node.ca),
        Err(TlsError::Invalid {
            part: TlsPart::Certificate,
            ..
        })
    ));
    assert!(make(&node.cert, &node.key, &node.ca).is_ok());
}

#[test]
fn certificates_outside_their_validity_are_rejected() {
    let ca = DevCa::new("test");
    let now = SystemTime::now();
    let expired = ca.issue_for("node-1", now - HOUR, HOUR / 2).unwrap();
    assert!(matches!(expired.tls(), Err(TlsError::Expired { .. })));
    let early = ca.issue_for("node-1", now + HOUR, HOUR).unwrap();
    assert!(matches!(early.tls(), Err(TlsError::NotValidYet { .. })));
}

#[test]
fn an_identity_expires_after_it_was_loaded() {
    let tls = DevCa::new("test").issue("node-1").unwrap();
    let at = |time: SystemTime| {
        UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap())
    };
    let now = SystemTime::now();
    assert!(tls.check(at(now)).is_ok());
    let after_its_time = at(now + 31 * 24 * HOUR);
    assert!(matches!(
        tls.check(after_its_time),
        Err(TlsError::Expired { .. })
    ));
    let before_its_time = at(now - 2 * HOUR);
    assert!(matches!(
        tls.check(before_its_time),
        Err(TlsError::NotValidYet { .. })
    ));
}

#[test]
fn identities_are_the_same_if_every_part_is() {
    let ca = DevCa::new("test");
    let node = ca.issue_pem("node-1").unwrap();
    let tls = node.tls().unwrap();
    assert!(tls.is_same(&node.tls().unwrap()));
    assert!(!tls.is_same(&ca.issue("node-1").unwrap()));
    let more_trust = node.ca.clone() + DevCa::new("other").ca_pem();
    assert!(!tls.is_same(&make(&node.cert, &node.key, &more_trust).unwrap()));
}

#[test]
fn files_are_compared_by_contents() {
    let dir = std::env::temp_dir().join(format!("rpcnet-transport-look-{}", std::process::id()));
    let ca = DevCa::new("test");
    let paths = ca.write_pem(&dir, "node-1").unwrap();
    let (first, made) = paths.read_if_changed(None).expect("never seen before");
    assert!(made.is_ok());
    assert!(paths.read_if_changed(Some(first)).is_none());
    // The same length, the same moment: only one byte differs.
    let mut key = std::fs::read(&paths.key).unwrap();
    key[40] ^= 1;
    std::fs::write(&paths.key, &key).unwrap();
    let (second, made) = paths.read_if_changed(Some(first)).expect("something else");
    assert!(made.is_err());
    std::fs::remove_file(&paths.key).unwrap();
    let (third, made) = paths
        .read_if_changed(Some(second))
        .expect("something else again");
    assert!(matches!(made, Err(TlsError::Io { path, .. }) if path == paths.key));
    assert!(paths.read_if_changed(Some(third)).is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A clock that is ahead of the machine's by this many seconds.
#[derive(Debug, Default)]
struct ClockAhead(AtomicU64);

impl TimeProvider for ClockAhead {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = UnixTime::now().as_secs() + self.0.load(SeqCst);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Connects, and resumes the session two hours later by the clock of the certificates, which live
/// for so many hours at the caller and at the server.
async fn reconnect(
    hours_of_client: u32,
    hours_of_server: u32,
) -> (Result<(), crate::ConnectError>, crate::TransportStats) {
    let (ca, clock) = (DevCa::new("test"), Arc::<ClockAhead>::default());
    let bind = |name, hours: u32| {
        let from = SystemTime::now() - HOUR;
        let pem = ca.issue_for(name, from, HOUR * (1 + hours)).unwrap();
        let [cert, key, ca] = [&pem.cert, &pem.key, &pem.ca].map(String::as_bytes);
        let clock: Arc<dyn TimeProvider> = clock.clone();
        let tls = Tls::from_pem_at(cert, key, ca, clock).unwrap();
        let config = crate::TransportConfig::default();
        crate::Endpoint::bind(([127, 0, 0, 1], 0).into(), config, tls).unwrap()
    };
    let server = bind("node-1", hours_of_server).serve(crate::Router::new());
    let node = bind("node-2", hours_of_client);
    for _ in 0..2 {
        node.connect(server.local_addr(), "node-1").await.unwrap();
    }
    assert_eq!(server.stats().sessions_resumed, 1);
    clock.0.store(2 * HOUR.as_secs(), SeqCst);
    let again = node.connect(server.local_addr(), "node-1").await;
    (again.map(|_| ()), server.stats())
}

#[tokio::test]
async fn a_caller_with_an_expired_certificate_cannot_resume() {
    let (again, stats) = reconnect(1, 24).await;
    assert!(
        matches!(again, Err(crate::ConnectError::CertificateRejected { .. })),
        "{again:?}"
    );
    assert_eq!((stats.sessions_resumed, stats.connections_accepted), (2, 2));
}

#[tokio::test]
async fn a_server_with_an_expired_certificate_is_not_resumed() {
    let (again, stats) = reconnect(24, 1).await;
    assert!(
        matches!(again, Err(crate::ConnectError::Untrusted { .. })),
        "{again:?}"
    );
    assert_eq!((stats.sessions_resumed, stats.connections_accepted), (1, 2));
}

#[tokio::test]
async fn a_session_is_resumed_while_both_certificates_are_valid() {
    let (again, stats) = reconnect(24, 24).await;
    again.unwrap();
    assert_eq!((stats.sessions_resumed, stats.connections_accepted), (2, 3));
}

#[test]
fn names_that_are_not_dns_names_are_rejected() {
    let ca = DevCa::new("test");
    for name in ["", "a b", "127.0.0.1:80", "ä"] {
        assert!(
            matches!(ca.issue(name), Err(TlsError::InvalidName(_))),
            "{name:?}"
        );
    }
}

#[test]
fn files_are_written_for_other_processes_and_the_key_for_its_owner() {
    let dir = std::env::temp_dir().join(format!("rpcnet-transport-tls-{}", std::process::id()));
    let ca = DevCa::new("test");
    let paths = ca.write_pem(&dir, "node-1").unwrap();
    // Again, over the old files.
    ca.write_pem(&dir, "node-1").unwrap();
    assert_eq!(paths.tls().unwrap().node_name(), "node-1");
    assert!(matches!(
        ca.write_pem(&dir, "CA"),
        Err(TlsError::InvalidName(_))
    ));
    #[cfg(unix)]
    {
        let meta = std::fs::metadata(&paths.key).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::remove_file(&paths.key).unwrap();
    assert!(matches!(paths.tls(), Err(TlsError::Io { path, .. }) if path == paths.key));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn reset_keys_survive_restarts_and_differ_by_node_host_port_and_shard() {
    use quinn::crypto::HmacKey;
    let ca = DevCa::new("test");
    let node = ca.issue_pem("node-1").unwrap();
    let port: SocketAddr = ([127, 0, 0, 1], 7946).into();
    let other_port: SocketAddr = ([127, 0, 0, 1], 7947).into();
    let signature_on = |host: Option<&[u8]>, tls: Tls, port, shard| {
        let key = tls.reset_key_on(host, port, shard);
        let mut signature = vec![0; key.signature_len()];
        key.sign(b"id", &mut signature);
        assert!(key.verify(b"id", &signature).is_ok());
        assert!(key.verify(b"other id", &signature).is_err());
        signature
    };
    let signature = |tls, port, shard| signature_on(Some(b"host-1"), tls, port, shard);
    let first = signature(node.tls().unwrap(), port, 0);
    assert_eq!(first, signature(node.tls().unwrap(), port, 0));
    assert_ne!(first, signature(node.tls().unwrap(), other_port, 0));
    assert_ne!(first, signature(ca.issue("node-1").unwrap(), port, 0));
    let second = signature(node.tls().unwrap(), port, 1);
    assert_eq!(second, signature(node.tls().unwrap(), port, 1));
    assert_ne!(first, second);
    // Hosts that share the key and are bound to all of their addresses.
    let any: SocketAddr = ([0, 0, 0, 0], 7946).into();
    let on = |host| signature_on(host, node.tls().unwrap(), any, 0);
    assert_eq!(on(Some(b"host-1")), on(Some(b"host-1")));
    assert_ne!(on(Some(b"host-1")), on(Some(b"host-2")));
    assert_ne!(on(None), on(None), "nothing tells this host from others");
}
