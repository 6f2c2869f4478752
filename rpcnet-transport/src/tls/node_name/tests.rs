//! Tests of node names: certificates with one name, with several, and with none.

use std::{sync::Arc, time::SystemTime};

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, CustomExtension};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};

use super::*;
use crate::{
    ConnectError, DevCa, Endpoint, NodePem, Router, RpcServer, Tls, TlsError, TransportConfig,
    close::CLOSE_NO_NAME,
};

/// Certificate for these names, with this common name.
fn issue(ca: &DevCa, names: &[&str], common_name: Option<&str>) -> NodePem {
    let from = SystemTime::now() - HOUR;
    // What looks like an IP address becomes one.
    let names = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    let names = names.unwrap().subject_alt_names;
    ca.issue_names(names, common_name, from, 2 * HOUR).unwrap()
}

#[test]
fn the_node_name_is_canonical() {
    let ca = DevCa::new("test");
    for name in ["Node-1.Workers", "node-1.workers."] {
        assert_eq!(ca.issue(name).unwrap().node_name(), "node-1.workers");
    }
    let pem = issue(&ca, &["Node-1.Workers"], None);
    assert_eq!(pem.tls().unwrap().node_name(), "node-1.workers");
    let pod = "worker-0.workers.a-namespace-of-some-length.svc.cluster.example.internal";
    assert_eq!(ca.issue(pod).unwrap().node_name(), pod);
}

#[test]
fn the_common_name_chooses_among_several_names() {
    let ca = DevCa::new("test");
    let name = |names: &[&str], common| issue(&ca, names, common).tls();
    let several = ["localhost", "Worker-0.workers", "worker-0"];
    assert_eq!(
        name(&several, Some("worker-0")).unwrap().node_name(),
        "worker-0"
    );
    let canonical = name(&several, Some("WORKER-0.workers")).unwrap();
    assert_eq!(canonical.node_name(), "worker-0.workers");
    // A name in two forms is one name, and a wildcard is none.
    let once = name(&["Worker-0", "worker-0", "*.workers"], None).unwrap();
    assert_eq!(once.node_name(), "worker-0");
    for common in [None, Some("somebody"), Some("worker-0.workers.svc")] {
        let error = name(&several, common).unwrap_err();
        assert!(
            matches!(&error, TlsError::AmbiguousName { names } if names.len() == 3),
            "{error:?}"
        );
        for text in ["\"worker-0.workers\"", "as common name too"] {
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn certificates_without_a_single_name_are_rejected_with_advice() {
    let ca = DevCa::new("test");
    for name in ["*.workers.example", "*.workers", "*"] {
        let error = issue(&ca, &[name], Some("w.workers.example"));
        let error = error.tls().unwrap_err();
        assert!(matches!(error, TlsError::WildcardName { .. }), "{error:?}");
        for text in [&format!("{name:?}"), "issue one for each node"] {
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    for (name, cause) in [("node-1.", "no dot at the end"), ("a b", "' ' cannot be")] {
        let error = issue(&ca, &[name], Some("node-1")).tls().unwrap_err();
        assert!(matches!(error, TlsError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(cause), "{error}");
    }
    for names in [&[][..], &["127.0.0.1"]] {
        let error = issue(&ca, names, Some("node-1")).tls().unwrap_err();
        assert!(matches!(error, TlsError::NoName), "{error:?}");
        assert!(error.to_string().contains("subjectAltName=DNS:"), "{error}");
    }
}

fn serve(pem: &NodePem) -> RpcServer {
    bind(&pem.tls().unwrap()).serve(Router::new())
}

fn bind(tls: &Tls) -> Endpoint {
    let any = ([127, 0, 0, 1], 0).into();
    Endpoint::bind(any, TransportConfig::default(), tls.clone()).unwrap()
}

#[tokio::test]
async fn a_node_is_dialled_by_any_form_of_its_name() {
    let ca = DevCa::new("test");
    let server = serve(&issue(&ca, &["Node-1.Workers"], None));
    let node = bind(&ca.issue("node-2").unwrap());
    for name in ["node-1.workers", "NODE-1.workers.", "Node-1.Workers"] {
        let client = node.connect(server.local_addr(), name).await.unwrap();
        assert_eq!(client.peer().name(), "node-1.workers");
        let client = node.connect_early(server.local_addr(), name).await.unwrap();
        client.confirmed().await.unwrap();
        assert_eq!(client.peer().name(), "node-1.workers");
    }
}

#[tokio::test]
async fn a_wildcard_does_not_name_other_nodes() {
    let ca = DevCa::new("test");
    let server = serve(&issue(
        &ca,
        &["w1.workers.example", "*.workers.example"],
        None,
    ));
    let node = bind(&ca.issue("node-2").unwrap());
    let addr = server.local_addr();
    node.connect(addr, "w1.workers.example").await.unwrap();
    let error = node.connect(addr, "w2.workers.example").await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::WrongNode { presented, .. } if presented.len() == 2),
        "{error:?}"
    );
    let cause = "a wildcard names no single node";
    assert!(error.to_string().contains(cause), "{error}");
}

/// Peers whose own start would have rejected their certificates are told why.
#[tokio::test]
async fn a_certificate_without_a_single_node_name_is_refused_with_the_reason() {
    let ca = DevCa::new("test");
    let server = serve(&ca.issue_pem("node-1").unwrap());
    for (names, cause) in [
        (&["*.workers"][..], "has no DNS name but wildcards"),
        (&["a", "b"], "its common name is none of them"),
        (&["127.0.0.1"], "has no DNS name"),
        (&["a b"], "are not valid"),
    ] {
        let reason = refusal(&server, &issue(&ca, names, Some("c"))).await;
        assert!(reason.contains(cause), "{reason}");
    }
    assert_eq!(server.stats().connections_accepted, 0);
}

#[tokio::test]
async fn a_caller_with_malformed_names_is_refused_with_the_reason() {
    let ca = DevCa::new("test");
    let server = serve(&ca.issue_pem("node-1").unwrap());
    let mut params = CertificateParams::default();
    // A valid DNS name, and half of a URI.
    let value = b"\x30\x0d\x82\x06node-2\x86\x09urn".to_vec();
    let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], value);
    params.custom_extensions = vec![names];
    let from = SystemTime::now() - HOUR;
    let pem = ca.issue_params(params, from, 2 * HOUR).unwrap();
    let reason = refusal(&server, &pem).await;
    let cause = "the certificate is not usable: its subject alternative names are malformed";
    assert_eq!(reason, cause);
    assert_eq!(server.stats().connections_accepted, 0);
}

/// Reason with which a server refuses a caller because of the names in its certificate.
async fn refusal(server: &RpcServer, pem: &NodePem) -> String {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connecting = endpoint.connect_with(client_config(pem), server.local_addr(), "node-1");
    let connection = connecting.unwrap().await.unwrap();
    let closed = connection.closed().await;
    let quinn::ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(close.error_code, CLOSE_NO_NAME);
    String::from_utf8_lossy(&close.reason).into_owned()
}

/// QUIC configuration with this certificate, valid or not.
fn client_config(pem: &NodePem) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(certificate(&pem.ca)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&pem.cert)], key)
        .unwrap();
    config.alpn_protocols = vec![b"rpcnet/1".to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
