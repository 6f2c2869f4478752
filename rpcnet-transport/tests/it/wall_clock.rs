//! Wall clock of an identity: certificates are judged by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use rpcnet_transport::{ConnectError, MemoryNetwork, Router, TlsReloadError, TransportConfig};

use super::{bind_in_memory, identity};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn certificates_are_judged_by_the_wall_clock_of_the_identity_and_of_its_reloads() {
    let network = MemoryNetwork::new();
    let days_ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let days_ahead = Arc::clone(&days_ahead);
        move || SystemTime::now() + DAY * days_ahead.load(SeqCst) as u32
    };
    let server = network
        .bind(
            ([10, 9, 9, 9], 80).into(),
            TransportConfig::lan(),
            identity("server").with_wall_clock(clock),
        )
        .expect("a free address");
    server.serve(Router::new());
    let caller = bind_in_memory(&network, "caller", TransportConfig::lan());
    let connect = async || caller.connect(server.local_addr(), "server").await;

    connect().await.expect("both are valid");
    // Everything that the authority issues expires after 30 days.
    days_ahead.store(31, SeqCst);
    let refused = connect().await.expect_err("expired, as the server finds");
    assert!(
        matches!(refused, ConnectError::CertificateRejected { .. }),
        "{refused}"
    );
    let refused = server.reload_tls(identity("server"));
    assert!(
        matches!(refused, Err(TlsReloadError::InvalidIdentity(_))),
        "{refused:?}"
    );
    days_ahead.store(0, SeqCst);
    connect().await.expect("valid again");
    server.reload_tls(identity("server")).expect("it is valid");
    connect().await.expect("both are valid");
    days_ahead.store(31, SeqCst);
    connect().await.expect_err("the clock outlives the reload");
}
