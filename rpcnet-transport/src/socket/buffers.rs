//! Socket buffers: the requested and the granted sizes.

use socket2::Socket;

/// Buffers of an endpoint's socket, requested and granted, in bytes.
///
/// Buffers smaller than requested lose bursts that larger ones would have held. On Linux the
/// administrator's limits are `net.core.rmem_max` and `net.core.wmem_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketBuffers {
    /// Size that the config requests, for each direction.
    pub requested: usize,
    /// Granted size for received datagrams that were not read yet; 0 if the system does not say. In
    /// the unit of the request: Linux allocates twice as much, half of it for its own bookkeeping,
    /// which is not counted here.
    pub receive: usize,
    /// Granted size for datagrams that were not sent yet; in the same unit as `receive`.
    pub send: usize,
}

impl SocketBuffers {
    /// Whether one of the two is smaller than requested.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.receive.min(self.send) < self.requested
    }

    /// Buffers of a socket that has what was requested.
    pub(crate) fn all_granted(asked: usize) -> Self {
        Self {
            requested: asked,
            receive: asked,
            send: asked,
        }
    }

    /// Requests buffers of this size, and reads the granted ones.
    pub(super) fn request(socket: &Socket, asked: usize) -> Self {
        // The system may grant less or fail; a smaller buffer is slower, not wrong.
        let _ = socket.set_recv_buffer_size(asked);
        let _ = socket.set_send_buffer_size(asked);
        Self {
            requested: asked,
            receive: socket.recv_buffer_size().unwrap_or(0) / KERNEL_DOUBLING,
            send: socket.send_buffer_size().unwrap_or(0) / KERNEL_DOUBLING,
        }
    }
}

/// socket(7): Linux doubles the requested size, and reports the double.
const KERNEL_DOUBLING: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    2
} else {
    1
};

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    fn granted(asked: usize) -> SocketBuffers {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        SocketBuffers::request(&socket, asked)
    }

    #[test]
    fn small_buffers_are_granted_and_reported_in_the_unit_of_the_request() {
        // Every system grants this size; it is above the minimum and below the usual limit.
        let buffers = granted(64 * 1024);
        assert!(!buffers.is_short(), "{buffers:?}");
        assert!(buffers.receive < 128 * 1024, "{buffers:?}");
    }

    #[test]
    fn a_request_above_the_limit_of_the_system_is_reported_as_short() {
        let buffers = granted(i32::MAX as usize);
        assert!(buffers.is_short(), "{buffers:?}");
        assert!(buffers.receive > 0 && buffers.send > 0, "{buffers:?}");
    }
}
