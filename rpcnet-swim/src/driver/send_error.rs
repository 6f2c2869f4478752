//! Send errors: datagrams that are too large for the path, and other errors of the socket.

use std::io;
use std::net::SocketAddr;

use super::shared::DriverShared;

impl DriverShared {
    /// Handles a datagram that was not sent. If it was too large, smaller ones are sent to that
    /// address from now on; that is counted, and logged once.
    pub(super) fn handle_send_error(&self, error: &io::Error, to: SocketAddr, bytes: usize) {
        if error.raw_os_error() != Some(EMSGSIZE) {
            return self.count_socket_error(error);
        }
        let is_first = self.input(|engine, _| {
            engine.handle_too_large(to);
            engine.stats().datagrams_too_large == 1
        });
        if is_first {
            tracing::warn!(
                %to, bytes,
                "gossip datagram exceeds the MTU of the interface or the path (EMSGSIZE): \
                 smaller ones are sent there"
            );
        }
    }
}

/// Error code of a datagram that is too large, for which the standard library has no kind.
const EMSGSIZE: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    90
} else if cfg!(windows) {
    10_040
} else {
    40
};
