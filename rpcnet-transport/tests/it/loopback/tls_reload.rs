//! Tests of TLS reload on running endpoints.

use std::{fs, path::PathBuf};

use rpcnet_transport::{ConnectError, MemoryNetwork, PemPaths, TlsReloadError};

use super::*;

/// Identity of an authority, which trusts that authority and one more.
pub(crate) fn trusting_both(ca: &DevCa, other: &DevCa, name: &str) -> Tls {
    let pem = ca.issue_pem(name).unwrap();
    let both = pem.ca.clone() + other.ca_pem();
    Tls::from_pem(pem.cert.as_bytes(), pem.key.as_bytes(), both.as_bytes()).unwrap()
}

pub(crate) fn on_loopback(tls: &Tls) -> Endpoint {
    Endpoint::bind(loopback(), TransportConfig::default(), tls.clone()).unwrap()
}

/// Directory that is removed with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("rpcnet-transport-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

/// Replaces a file atomically, so that it is never seen empty.
fn replace(path: &PathBuf, text: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, path).unwrap();
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn an_authority_is_replaced_without_losing_calls() {
    let (old, new) = (DevCa::new("old"), DevCa::new("new"));
    let (let_go, gate) = tokio::sync::watch::channel(false);
    let router = Router::new()
        .typed("alive", |n: u32| async move { n + 1 })
        .raw("wait", move |_cx, body| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.expect("the test lives");
                Ok(body)
            }
        });
    let server = on_loopback(&old.issue(SERVER).unwrap()).serve(router);
    let node = on_loopback(&old.issue(CLIENT).unwrap());
    let addr = server.local_addr();
    let before = node.connect(addr, SERVER).await.unwrap();
    let call = tokio::spawn({
        let before = before.clone();
        async move { before.call("wait", "held").await }
    });
    until("it is served", || server.in_flight() == 1).await;

    // The server moves first: it presents the new authority's certificate and accepts callers of
    // both.
    let moved = trusting_both(&new, &old, SERVER);
    server.endpoint().reload_tls(moved).unwrap();
    assert_answers(&before).await;
    let error = within(node.connect(addr, SERVER)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    node.reload_tls(trusting_both(&old, &new, CLIENT)).unwrap();
    assert_answers(&within(node.connect(addr, SERVER)).await.unwrap()).await;
    // Then the client, and the old one is not needed any more.
    node.reload_tls(new.issue(CLIENT).unwrap()).unwrap();
    server
        .endpoint()
        .reload_tls(new.issue(SERVER).unwrap())
        .unwrap();
    assert_answers(&within(node.connect(addr, SERVER)).await.unwrap()).await;
    let late = on_loopback(&trusting_both(&old, &new, CLIENT));
    let error = within(late.connect(addr, SERVER)).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::CertificateRejected { .. }),
        "{error:?}"
    );

    assert_answers(&before).await;
    let_go.send(true).unwrap();
    assert_eq!(within(call).await.unwrap().unwrap(), "held");
    assert_eq!(
        (server.stats().tls_reloads, node.stats().tls_reloads),
        (2, 2)
    );
}

#[tokio::test]
async fn a_rejected_reload_keeps_name_and_identity() {
    let server = serve(Router::new(), TransportConfig::default());
    let error = server
        .endpoint()
        .reload_tls(identity("server-2"))
        .unwrap_err();
    match error {
        TlsReloadError::NameChanged { current, new } => {
            assert_eq!((&*current, &*new), (SERVER, "server-2"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.endpoint().node_name(), SERVER);
    let stats = server.stats();
    assert_eq!((stats.tls_reloads, stats.tls_reloads_rejected), (0, 1));
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_reload_does_not_reopen_a_closed_endpoint() {
    let server = serve(Router::new(), TransportConfig::default());
    let addr = server.local_addr();
    within(server.shutdown(TEST_TIMEOUT)).await;
    let error = server.endpoint().reload_tls(identity(SERVER)).unwrap_err();
    assert!(matches!(error, TlsReloadError::EndpointClosed), "{error:?}");
    let config = TransportConfig::default().with_connect_timeout(Duration::from_millis(300));
    let late = endpoint(CLIENT, config);
    let error = within(late.connect(addr, SERVER)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Refused { .. } | ConnectError::Timeout { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn changed_files_are_reloaded_once_they_are_consistent() {
    let (dir, drafts) = (Dir::new("watch"), Dir::new("watch-drafts"));
    let new = DevCa::new("new");
    let paths = CA.write_pem(&dir.0, SERVER).unwrap();
    let server = on_loopback(&paths.tls().unwrap())
        .serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    server
        .endpoint()
        .watch_pem_files(paths.clone(), Duration::from_millis(10));
    let client = connect(&server).await;
    let next = new.write_pem(&drafts.0, SERVER).unwrap();
    let copy = |from: &PathBuf, to: &PathBuf| replace(to, &fs::read(from).unwrap());
    let rejected = |times| counts(&server, "rejections", times, |s| s.tls_reloads_rejected);

    // Half of a certificate, all of it, and its key: none of that fits the rest.
    let text = fs::read(&next.cert).unwrap();
    replace(&paths.cert, &text[..text.len() / 2]);
    rejected(1).await;
    copy(&next.cert, &paths.cert);
    rejected(2).await;
    copy(&next.key, &paths.key);
    rejected(3).await;
    assert_eq!(server.stats().tls_reloads, 0);
    assert_serves(&server).await;
    fs::remove_file(&paths.ca).unwrap();
    rejected(4).await;
    copy(&next.ca, &paths.ca);
    counts(&server, "reloads", 1, |s| s.tls_reloads).await;
    rejected(4).await;

    assert_answers(&client).await;
    let node = on_loopback(&new.issue(CLIENT).unwrap());
    let again = within(node.connect(server.local_addr(), SERVER)).await;
    assert_answers(&again.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_connections_is_immediate_while_files_are_watched() {
    let (dir, network) = (Dir::new("idle-watch"), MemoryNetwork::new());
    let paths = CA.write_pem(&dir.0, SERVER).unwrap();
    let config = TransportConfig::default().with_drain_grace(Duration::from_secs(5));
    let any = ([0, 0, 0, 0], 0).into();
    let endpoint = network.bind(any, config, paths.tls().unwrap()).unwrap();
    endpoint.watch_pem_files(paths, Duration::from_secs(60));
    let begun = Instant::now();
    endpoint
        .serve(Router::new())
        .shutdown(4 * TEST_TIMEOUT)
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn the_last_file_watch_counts_and_ends_with_the_endpoint() {
    let (dir, other) = (Dir::new("first-watch"), Dir::new("second-watch"));
    let first = CA.write_pem(&dir.0, SERVER).unwrap();
    let second = CA.write_pem(&other.0, SERVER).unwrap();
    let server = on_loopback(&first.tls().unwrap()).serve(Router::new());
    let watch = |paths: &PemPaths| {
        server
            .endpoint()
            .watch_pem_files(paths.clone(), Duration::ZERO);
    };
    watch(&first);
    watch(&second);
    counts(&server, "reloads", 1, |s| s.tls_reloads).await;
    // The first directory is not watched any more.
    replace(&first.cert, b"nonsense");
    replace(&second.cert, b"nonsense");
    counts(&server, "rejections", 1, |s| s.tls_reloads_rejected).await;
    // A shutdown waits for the watch too.
    within(server.shutdown(4 * TEST_TIMEOUT)).await;
    let stats = server.stats();
    assert_eq!((stats.tls_reloads, stats.tls_reloads_rejected), (1, 1));
}
