//! How much the system holds for a socket.

use socket2::Socket;

/// Buffers of an endpoint's socket: what was asked for, and what there is. In bytes.
///
/// With less than was asked for, bursts are lost that would have been held. On Linux the administrator's bounds are
/// `net.core.rmem_max` and `net.core.wmem_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketBuffers {
    /// What the config asked for, each way.
    pub requested: usize,
    /// What there is for datagrams that were received and not yet read; 0 if the system does not say. In the unit in which
    /// it is asked for: Linux holds twice as much, half of it for its own records, and that half is not counted here.
    pub receive: usize,
    /// What there is for datagrams that are not yet sent; as `receive`.
    pub send: usize,
}

impl SocketBuffers {
    /// Whether one of the two is smaller than was asked for.
    pub fn is_short(&self) -> bool {
        self.receive.min(self.send) < self.requested
    }

    /// Of a socket that has what was asked for.
    pub(crate) fn all_granted(asked: usize) -> Self {
        Self {
            requested: asked,
            receive: asked,
            send: asked,
        }
    }

    /// Asks for buffers of this size, and sees what there is then.
    pub(super) fn request(socket: &Socket, asked: usize) -> Self {
        // The system may grant less or refuse; a smaller buffer is slower, not wrong.
        let _ = socket.set_recv_buffer_size(asked);
        let _ = socket.set_send_buffer_size(asked);
        Self {
            requested: asked,
            receive: socket.recv_buffer_size().unwrap_or(0) / KERNEL_DOUBLING,
            send: socket.send_buffer_size().unwrap_or(0) / KERNEL_DOUBLING,
        }
    }
}

/// socket(7): Linux doubles what it is asked for, and says the double.
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
    fn a_small_wish_is_granted_and_said_in_the_same_unit() {
        // Every system grants this; it is above the least and below the usual bound.
        let buffers = granted(64 * 1024);
        assert!(!buffers.is_short(), "{buffers:?}");
        assert!(buffers.receive < 128 * 1024, "{buffers:?}");
    }

    #[test]
    fn a_wish_past_all_bounds_is_seen_to_be_cut() {
        let buffers = granted(i32::MAX as usize);
        assert!(buffers.is_short(), "{buffers:?}");
        assert!(buffers.receive > 0 && buffers.send > 0, "{buffers:?}");
    }
}
