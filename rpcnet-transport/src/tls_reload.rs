//! TLS reload: a new identity for a running endpoint, and warnings before a certificate expires.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use thiserror::Error;
use tokio::time::sleep;

use crate::{
    Endpoint, PemPaths, Tls, TlsError,
    endpoint::EndpointShared,
    tls::{ExpiryWarning, FilesDigest, utc},
};

/// Reason for which an endpoint rejected a new identity. The old one stays in use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsReloadError {
    /// Other nodes would reject the new certificate. Its issuer is at fault; see the source.
    #[error("the new TLS identity is not usable: {0}")]
    InvalidIdentity(#[from] TlsError),
    /// The new certificate is for another node. A node keeps its name for as long as it runs.
    #[error("the new certificate names {new:?}, expected {current:?}: a node keeps its name")]
    NameChanged {
        /// Name of this node.
        current: String,
        /// Name in the new certificate.
        new: String,
    },
    /// The endpoint is closed or shutting down.
    #[error("this endpoint is closed")]
    EndpointClosed,
}

/// TLS reload without a new endpoint.
impl Endpoint {
    /// Replaces the identity, and the trusted authorities with it.
    ///
    /// New connections in both directions use the new identity. Open connections and their calls go
    /// on with the old one; to lock a peer out at once, close its connections.
    ///
    /// A [`Tls`] is always consistent in itself. This method checks what may have changed since it
    /// was built, or depends on this endpoint: the certificate has to be valid now, and to name
    /// this node.
    ///
    /// The key of stateless resets, with which a restarted node ends the connections of its earlier
    /// life, is derived from the private key that the endpoint was bound with. A reload does not
    /// change it. If a node restarts with another private key than it was last bound with, its
    /// callers learn of the restart by their idle timeout.
    ///
    /// # Errors
    ///
    /// [`TlsReloadError`]; the old identity stays.
    pub fn reload_tls(&self, tls: Tls) -> Result<(), TlsReloadError> {
        self.0.shared.reload_tls(tls)
    }

    /// End of the validity (`notAfter`) of the certificate that the endpoint presents now:
    /// [`Tls::not_after`] of the current identity.
    ///
    /// The endpoint also logs it: a warning when less than a quarter of the validity is left, or
    /// less than 30 days of a long one; again each time that half of the rest has passed; an error
    /// when the certificate has expired, repeated every hour until it is replaced. Endpoints whose
    /// identity comes from the same [`Tls`] and its clones warn once between them.
    #[must_use]
    pub fn certificate_not_after(&self) -> SystemTime {
        self.0.shared.dialer.tls.current().not_after()
    }

    /// Reads the files of this node's identity at this interval (at least 10 ms), and
    /// [reloads](Self::reload_tls) it when their contents change.
    ///
    /// Files that form no identity, as while they are being replaced one after the other, are
    /// logged and counted in [`tls_reloads_rejected`](crate::TransportStats::tls_reloads_rejected),
    /// and the last good identity stays until they change again. A certificate that is not valid
    /// yet is tried again without a change. Files with the identity in use change nothing.
    ///
    /// The watch ends with the endpoint or its runtime, or when this method is called again.
    pub fn watch_pem_files(&self, paths: PemPaths, every: Duration) {
        let shared = &self.0.shared;
        let ended = shared.lifecycle.stopped.child_token();
        if let Some(before) = self.0.tls_watch.lock().replace(ended.clone()) {
            before.cancel();
        }
        let watch = watch_files(
            Arc::clone(shared),
            paths,
            every.max(FILE_CHECK_INTERVAL_MIN),
        );
        // Not among the tasks that a shutdown waits for.
        shared.runtime.spawn(async move {
            ended.run_until_cancelled(watch).await;
        });
    }
}

impl EndpointShared {
    fn reload_tls(&self, tls: Tls) -> Result<(), TlsReloadError> {
        let tls = tls.with_clock_of(&self.dialer.tls.current());
        let reloaded = self.check_tls(&tls).and_then(|()| {
            let is_open = !self.lifecycle.closing.is_cancelled();
            if is_open && self.dialer.replace_tls(tls) {
                Ok(())
            } else {
                Err(TlsReloadError::EndpointClosed)
            }
        });
        match &reloaded {
            Ok(()) => {
                self.counters.tls_reloads.add_one();
                tracing::info!("TLS identity reloaded");
            }
            Err(error) => {
                self.counters.tls_reloads_rejected.add_one();
                tracing::warn!(%error, "TLS identity not reloaded");
            }
        }
        reloaded
    }

    fn check_tls(&self, tls: &Tls) -> Result<(), TlsReloadError> {
        let current = self.dialer.tls.current();
        if tls.node_name() != current.node_name() {
            return Err(TlsReloadError::NameChanged {
                current: current.node_name().to_owned(),
                new: tls.node_name().to_owned(),
            });
        }
        Ok(tls.check(tls.now())?)
    }
}

/// Starts the task that warns of the expiry in the log, until the endpoint ends.
pub(crate) fn warn_of_expiry(shared: &Arc<EndpointShared>) {
    let (stopped, warnings) = (
        shared.lifecycle.stopped.clone(),
        log_expiry_warnings(Arc::clone(shared)),
    );
    // Not among the tasks that a shutdown waits for: it has nothing to complete.
    shared.runtime.spawn(async move {
        stopped.run_until_cancelled(warnings).await;
    });
}

async fn log_expiry_warnings(shared: Arc<EndpointShared>) {
    loop {
        let tls = shared.dialer.tls.current();
        let (node, not_after) = (tls.node_name(), utc(tls.not_after()));
        match tls.take_expiry_warning() {
            Some(ExpiryWarning::Soon(left)) => tracing::warn!(
                node,
                not_after,
                ?left,
                "certificate expires soon: issue a new one for this node, and reload it"
            ),
            Some(ExpiryWarning::Expired) => tracing::error!(
                node,
                not_after,
                "certificate expired: other nodes refuse new connections with this one; issue a new \
                 one for this node, and reload it"
            ),
            None => {}
        }
        let next = tls.until_expiry_warning();
        tokio::select! {
            biased;
            () = shared.dialer.tls.reloaded.notified() => {}
            () = sleep(next.min(CLOCK_CHECK_INTERVAL_MAX)) => {}
        }
    }
}

async fn watch_files(shared: Arc<EndpointShared>, paths: PemPaths, every: Duration) {
    let mut last: Option<FilesDigest> = None;
    let mut retries_unchanged = false;
    loop {
        let before = if retries_unchanged { None } else { last };
        let files = paths.clone();
        let read = tokio::task::spawn_blocking(move || files.read_if_changed(before));
        if let Ok(Some((digest, identity))) = read.await {
            let has_changed = last.replace(digest) != Some(digest);
            retries_unchanged = matches!(identity, Err(TlsError::NotValidYet { .. }));
            match identity {
                Ok(tls) if tls.is_same(&shared.dialer.tls.current()) => {}
                // A failed reload is counted and logged there.
                Ok(tls) => drop(shared.reload_tls(tls)),
                Err(error) if has_changed => {
                    shared.counters.tls_reloads_rejected.add_one();
                    tracing::warn!(%error, cert = %paths.cert.display(), "the PEM files are not usable as TLS identity");
                }
                Err(_) => {}
            }
        }
        sleep(every).await;
    }
}

/// Longest time between two checks of the wall clock, which may be set or have passed while the
/// machine slept.
const CLOCK_CHECK_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Shortest time between two reads of the files.
const FILE_CHECK_INTERVAL_MIN: Duration = Duration::from_millis(10);
