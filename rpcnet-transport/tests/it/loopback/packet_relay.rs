//! Relay on the path between a caller and a server, which can hold packets back and replay them.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

use super::*;

/// Relay between one caller and one server, which can hold back some of the caller's packets.
///
/// It selects packets by their contents, not by their time: the types of QUIC packets are readable
/// on the path (RFC 9000 section 17.2).
pub(crate) struct PacketRelay {
    pub(crate) addr: SocketAddr,
    keeps: watch::Sender<RecordedPackets>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// Packets of the caller that are held back for now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordedPackets {
    Nothing,
    /// All but first flights and early data, so that no handshake completes.
    Ends,
    Everything,
}

struct State {
    outside: UdpSocket,
    /// Towards the server.
    inside: UdpSocket,
    passed: parking_lot::Mutex<Vec<Vec<u8>>>,
    answers: AtomicU64,
}

impl PacketRelay {
    pub(crate) async fn to(server: &RpcServer) -> Self {
        let bind = || UdpSocket::bind(loopback());
        let (outside, inside) = (bind().await.unwrap(), bind().await.unwrap());
        inside.connect(server.local_addr()).await.unwrap();
        let addr = outside.local_addr().unwrap();
        let state = Arc::new(State {
            outside,
            inside,
            passed: parking_lot::Mutex::default(),
            answers: AtomicU64::new(0),
        });
        let (keeps, kept) = watch::channel(RecordedPackets::Nothing);
        let task = tokio::spawn(pass(Arc::clone(&state), kept));
        Self {
            addr,
            keeps,
            state,
            task,
        }
    }

    /// Packets that were held back are sent now.
    pub(crate) fn keep(&self, what: RecordedPackets) {
        self.keeps.send_replace(what);
    }

    /// Forgets the packets that were forwarded so far.
    pub(crate) fn forget(&self) {
        self.state.passed.lock().clear();
    }

    /// Sends the forwarded packets to the server once more.
    pub(crate) async fn replay(&self) {
        let again = self.state.passed.lock().clone();
        for datagram in again {
            self.state.inside.send(&datagram).await.unwrap();
        }
    }

    /// Datagrams of the server.
    pub(crate) fn answers(&self) -> u64 {
        self.state.answers.load(SeqCst)
    }
}

impl Drop for PacketRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(state: Arc<State>, mut keeps: watch::Receiver<RecordedPackets>) {
    let (mut from_caller, mut from_server) = ([0; 2_048], [0; 2_048]);
    let mut kept = VecDeque::new();
    let mut caller = None;
    loop {
        tokio::select! {
            Ok((len, from)) = state.outside.recv_from(&mut from_caller) => {
                caller = Some(from);
                if kept.len() < KEPT_MAX {
                    kept.push_back(from_caller[..len].to_vec());
                }
            }
            Ok(len) = state.inside.recv(&mut from_server) => {
                state.answers.fetch_add(1, SeqCst);
                if let Some(caller) = caller {
                    let _ = state.outside.send_to(&from_server[..len], caller).await;
                }
            }
            changed = keeps.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let what = *keeps.borrow();
        for datagram in std::mem::take(&mut kept) {
            let stays = match what {
                RecordedPackets::Nothing => false,
                RecordedPackets::Ends => !is_beginning(&datagram),
                RecordedPackets::Everything => true,
            };
            if stays {
                kept.push_back(datagram);
                continue;
            }
            let _ = state.inside.send(&datagram).await;
            let mut passed = state.passed.lock();
            if passed.len() < KEPT_MAX {
                passed.push(datagram);
            }
        }
    }
}

/// Whether a datagram holds only first flights and early data.
fn is_beginning(mut datagram: &[u8]) -> bool {
    const INITIAL: u8 = 0;
    const EARLY: u8 = 1;
    while let Some(&first) = datagram.first() {
        let kind = first >> 4 & 3;
        if first & 0x80 == 0 || ![INITIAL, EARLY].contains(&kind) {
            return false;
        }
        let mut at = 5;
        for _id in 0..2 {
            at += 1 + usize::from(datagram[at]);
        }
        if kind == INITIAL {
            let token_bytes = varint(datagram, &mut at);
            at += token_bytes;
        }
        let rest = varint(datagram, &mut at);
        datagram = &datagram[at + rest..];
    }
    true
}

/// Variable-length integer (RFC 9000 section 16).
fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let len = 1 << (bytes[*at] >> 6);
    let value = bytes[*at..*at + len]
        .iter()
        .fold(0, |value, byte| value << 8 | usize::from(*byte));
    *at += len;
    value & ((1 << (8 * len - 2)) - 1)
}

const KEPT_MAX: usize = 1_024;
