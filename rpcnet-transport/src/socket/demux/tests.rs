//! Tests of batches of mixed datagrams, from a scripted socket.

use std::{collections::VecDeque, sync::Mutex, task::Waker, time::Duration};

use quinn::udp::EcnCodepoint;

use super::*;
use crate::{SideChannel, busy_poll::Expected, stats::Counters};

/// One message as the kernel delivers it: sender, length of its segments, bytes.
type Message = (u16, usize, &'static [u8]);

/// Scripted socket that delivers several messages in one receive.
#[derive(Debug, Default)]
struct Script(Mutex<VecDeque<Vec<Message>>>);

impl AsyncUdpSocket for Script {
    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some(messages) = self.0.lock().unwrap().pop_front() else {
            return Poll::Pending;
        };
        for (at, (port, stride, bytes)) in messages.iter().enumerate() {
            bufs[at][..bytes.len()].copy_from_slice(bytes);
            metas[at] = RecvMeta {
                addr: sender(*port),
                len: bytes.len(),
                stride: *stride,
                ecn: Some(EcnCodepoint::Ect0),
                dst_ip: None,
            };
        }
        Poll::Ready(Ok(messages.len()))
    }

    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        unreachable!("no one waits to send")
    }

    fn try_send(&self, _transmit: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(sender(1))
    }
}

fn sender(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

struct Port {
    socket: DemuxSocket,
    busy_poll: Arc<BusyPoll>,
    side: SideChannel,
    counters: Arc<Counters>,
}

fn port(receives: Vec<Vec<Message>>) -> Port {
    let script = Arc::new(Script(Mutex::new(receives.into())));
    let counters = Arc::new(Counters::default());
    let queue = Arc::new(SideQueue::new(100, 100, Arc::clone(&counters)));
    let side = SideChannel::new(Arc::clone(&queue), script.clone(), None, sender(1));
    side.attach_reader();
    let busy_poll = Arc::new(BusyPoll::new(Duration::ZERO, Arc::default()));
    Port {
        socket: DemuxSocket::new(script, queue, Arc::clone(&busy_poll), 1_452, 2_049),
        busy_poll,
        side,
        counters,
    }
}

impl Port {
    /// One receive as QUIC sees it; `None` if it has to wait.
    fn receive(&self) -> Option<Vec<(u16, usize, Vec<u8>)>> {
        let mut memory = [[0u8; 100]; 4];
        let mut bufs = memory.each_mut().map(|buf| IoSliceMut::new(buf));
        let mut metas = [RecvMeta::default(); 4];
        let mut cx = Context::from_waker(Waker::noop());
        match self.socket.poll_recv(&mut cx, &mut bufs, &mut metas) {
            Poll::Ready(received) => {
                let messages = metas.iter().zip(&bufs).take(received.unwrap());
                Some(
                    messages
                        .map(|(m, b)| (m.addr.port(), m.stride, b[..m.len].to_vec()))
                        .collect(),
                )
            }
            Poll::Pending => None,
        }
    }

    fn side_datagrams(&self) -> Vec<(u16, Vec<u8>)> {
        let mut datagrams = Vec::new();
        let mut buf = [0; 100];
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(received) = self.side.poll_recv(&mut cx, &mut buf) {
            let (len, from) = received.unwrap();
            datagrams.push((from.port(), buf[..len].to_vec()));
        }
        datagrams
    }
}

#[test]
fn busy_polling_is_told_of_a_packet_that_left() {
    let port = port(Vec::new());
    port.busy_poll.record(Expected::One);
    assert!(!port.busy_poll.take_spin(), "none has left");
    port.socket
        .try_send(&Transmit {
            destination: sender(1),
            ecn: None,
            contents: b"x",
            segment_size: None,
            src_ip: None,
        })
        .unwrap();
    assert!(port.busy_poll.take_spin());
}

#[test]
fn mixed_messages_are_sorted_and_those_of_quic_move_together() {
    let port = port(vec![vec![
        (11, 2, b"1a2b3"),
        (12, 3, b"@aa1bb@c"),
        (13, 2, b"@a@b"),
        (14, 9, b"4 alone"),
    ]]);
    let received = port.receive().unwrap();
    assert_eq!(
        received,
        [(12, 3, b"@aa@c".to_vec()), (13, 2, b"@a@b".to_vec())]
    );
    let side = port.side_datagrams();
    let expected: [(u16, &[u8]); 5] = [
        (11, b"1a"),
        (11, b"2b"),
        (11, b"3"),
        (12, b"1bb"),
        (14, b"4 alone"),
    ];
    assert_eq!(side, expected.map(|(port, bytes)| (port, bytes.to_vec())));
}

#[test]
fn batches_of_quic_alone_pass_unchanged() {
    let message: Message = (11, 3, b"@aa@bb@c");
    let port = port(vec![vec![message; 4]]);
    assert_eq!(
        port.receive().unwrap(),
        vec![(11, 3, message.2.to_vec()); 4]
    );
    assert!(port.side_datagrams().is_empty());
}

#[test]
fn receives_without_quic_are_passed_over() {
    let port = port(vec![
        vec![(11, 2, b"1a")],
        vec![(11, 2, b"2b")],
        vec![(12, 2, b"@q")],
    ]);
    assert_eq!(port.receive().unwrap(), [(12, 2, b"@q".to_vec())]);
    assert_eq!(port.side_datagrams().len(), 2);
}

#[test]
fn a_flood_of_side_datagrams_yields_to_quic() {
    let port = port(vec![vec![(11, 2, b"1a")]; SIDE_BATCHES_MAX + 1]);
    assert_eq!(port.receive(), None);
    assert_eq!(port.side_datagrams().len(), SIDE_BATCHES_MAX);
}

#[test]
fn a_dropped_side_channel_drops_datagrams() {
    let port = port(vec![vec![(11, 2, b"1a")], vec![(11, 2, b"2b")]]);
    let Port {
        socket,
        side,
        counters,
        ..
    } = port;
    drop(side);
    let mut memory = [0u8; 100];
    let mut cx = Context::from_waker(Waker::noop());
    let polled = socket.poll_recv(
        &mut cx,
        &mut [IoSliceMut::new(&mut memory)],
        &mut [RecvMeta::default()],
    );
    assert!(polled.is_pending());
    assert_eq!(
        (
            counters.side_dropped.value(),
            counters.side_received.value()
        ),
        (2, 0)
    );
}

#[test]
fn no_batch_is_larger_than_a_call_to_the_system() {
    for (packet_bytes, segments) in [
        (1_200, 54),
        (1_452, 45),
        (8_952, 7),
        (16_376, 4),
        (32_753, 2),
        (32_754, 1),
        (65_507, 1),
        (65_527, 1),
    ] {
        assert_eq!(transmit_segments_max(packet_bytes), segments);
        assert!(segments == 1 || segments * usize::from(packet_bytes) <= 65_507);
    }
}

#[test]
fn the_segments_of_a_receive_hold_the_largest_batch_of_the_system() {
    for (receive_bytes, segments) in [(1_472, 45), (2_049, 32), (8_952, 8), (65_527, 2)] {
        assert_eq!(receive_segments_max(receive_bytes), segments);
        assert!(segments * usize::from(receive_bytes) >= 65_536);
    }
}

#[test]
fn unrecognized_datagrams_do_not_displace_recognized_ones() {
    let junk: Vec<Vec<Message>> = vec![vec![(11, 4, b"1unk"); 4]; 50];
    let mut receives = junk.clone();
    receives.push(vec![(12, 4, b"2ood")]);
    receives.extend(junk);
    receives.push(vec![(13, 4, b"2ood"), (14, 2, b"@q")]);
    let mut port = port(receives);
    port.side = port.side.with_recognizer(|datagram| datagram == b"2ood");
    while port.receive().is_none() {}
    let waiting = port.side_datagrams();
    // A sixteenth of a queue of a hundred.
    let junk = waiting.iter().filter(|(from, _)| *from == 11).count();
    assert_eq!(junk, 7);
    let good: Vec<_> = waiting.iter().filter(|(from, _)| *from != 11).collect();
    assert_eq!(good, [&(12, b"2ood".to_vec()), &(13, b"2ood".to_vec())]);
    let counters = &port.counters;
    assert_eq!(counters.side_unrecognized.value(), 400 - 7);
    assert_eq!(counters.side_received.value(), 9);
    assert_eq!(counters.side_dropped.value(), 0);
}
