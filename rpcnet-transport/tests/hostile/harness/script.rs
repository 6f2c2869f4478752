//! Scripts: random bytes read as operations of a peer that breaks the protocol.

use std::time::Duration;

use bytes::BytesMut;
use rpcnet_transport::{
    Code, LoadReport, Priority, Processed,
    wire::{
        self, CallSchema, HeaderFlags, Hello, LaneRequest, Preface, ReplyHeader, RequestFlags,
        RequestHeader, StreamKind,
    },
};

/// Bytes that were not used yet. Past their end all are zero.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(super) fn bytes(&mut self, at_most: usize) -> &'a [u8] {
        let len = self.below(at_most + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// A number that is often small, and now and then at the end of its range.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=199 => u64::from(byte % 8),
            200..=219 => u64::from(u16::from_le_bytes([self.byte(), self.byte()])),
            220..=229 => u64::from(u16::MAX) + u64::from(self.byte()),
            230..=239 => u64::from(u32::MAX),
            _ => u64::MAX,
        }
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    /// Announced size of a body, which may be wrong.
    fn size(&mut self, honest: usize) -> usize {
        match self.byte() {
            0..=199 => honest,
            200..=219 => honest + self.below(256),
            220..=239 => 60 * 1024 + self.below(256) * 64,
            _ => u32::MAX as usize,
        }
    }

    fn method(&mut self) -> &'static str {
        METHODS[self.below(METHODS.len())]
    }

    fn deadline(&mut self) -> Option<Duration> {
        match self.byte() {
            0..=127 => None,
            byte @ 128..=191 => Some(Duration::from_millis(u64::from(byte - 128))),
            192..=223 => Some(Duration::ZERO),
            _ => Some(Duration::from_secs(10_000_000)),
        }
    }

    fn kind(&mut self) -> StreamKind {
        [
            StreamKind::Call,
            StreamKind::Lane,
            StreamKind::Control,
            StreamKind::LaneReply,
        ][self.below(4)]
    }

    /// Bytes to write to a stream: a frame of any kind, in whole or in part, or random bytes.
    pub(super) fn write(&mut self, out: &mut BytesMut) {
        let before = out.len();
        match self.below(16) {
            0 => out.extend_from_slice(&Preface { kind: self.kind() }.encode()),
            1 | 2 => self.write_request(out),
            3 => {
                let number = self.small() as u16;
                match self.schema() {
                    Some(schema) => {
                        wire::encode_lane_typed_method(out, number, self.method(), schema);
                    }
                    None => wire::encode_lane_method(out, number, self.method()),
                }
            }
            4 => write_lane_methods(out),
            5..=7 => self.write_lane_request(out),
            8 => wire::encode_lane_cancel(out, self.small()),
            9 => wire::encode_lane_received(out, self.small()),
            10 => {
                let body = self.bytes(64);
                wire::encode_item_header(out, self.size(body.len()));
                out.extend_from_slice(body);
            }
            11 => {
                let header = self.reply();
                let body = self.bytes(64);
                wire::encode_reply(out, &header, self.size(body.len()));
                out.extend_from_slice(body);
            }
            12 => wire::encode_lane_reply(out, self.small(), self.load(), self.bytes(64)),
            13 => {
                let (id, header) = (self.small(), self.reply());
                wire::encode_lane_failure(out, id, &header, self.bytes(64));
            }
            14 => match self.byte() & 1 {
                0 => self.write_control_frame(out),
                _ => self.write_headers(out),
            },
            _ => out.extend_from_slice(self.bytes(64)),
        }
        self.corrupt(out, before);
    }

    fn write_request(&mut self, out: &mut BytesMut) {
        let header = RequestHeader {
            method: self.method().to_owned(),
            attempt: self.byte(),
            flags: RequestFlags {
                streams_requests: self.byte() & 1 != 0,
                streams_replies: self.byte() & 1 != 0,
                idempotent: self.byte() & 1 != 0,
            },
            priority: Priority::default(),
            idempotency_key: (self.byte() & 3 == 0).then(|| u128::from(self.byte())),
            schema: self.schema(),
            deadline: self.deadline(),
        };
        let body = self.bytes(64);
        wire::encode_request(out, &header, self.size(body.len()));
        out.extend_from_slice(body);
    }

    /// Writes headers, most of them valid, of a call or of a lane.
    fn write_headers(&mut self, out: &mut BytesMut) {
        let flags = HeaderFlags {
            has_trace: self.byte() & 1 != 0,
            wants_reply_metadata: self.byte() & 1 != 0,
        };
        let mut bytes = BytesMut::new();
        if flags.has_trace {
            bytes.extend_from_slice(&[self.byte(); 25]);
        }
        for _ in 0..self.below(4) {
            let (key, value) = (b'a' + self.byte() % 30, self.bytes(16));
            bytes.extend_from_slice(&[1, value.len() as u8, 0, key]);
            bytes.extend_from_slice(value);
        }
        match self.byte() & 1 {
            0 => wire::encode_lane_headers(out, self.small(), flags, bytes.len()),
            _ => wire::encode_headers(out, flags, bytes.len()),
        }
        out.extend_from_slice(&bytes);
    }

    fn write_lane_request(&mut self, out: &mut BytesMut) {
        let request = LaneRequest {
            id: self.small(),
            method: self.small() as u16,
            attempt: self.byte(),
            idempotent: self.byte() & 1 != 0,
            priority: Priority::default(),
            idempotency_key: (self.byte() & 3 == 0).then(|| [self.byte(); 16]),
            deadline: self.deadline(),
        };
        wire::encode_lane_request(out, &request, self.bytes(64));
    }

    /// Writes a frame that belongs on a control stream or before a large reply.
    fn write_control_frame(&mut self, out: &mut BytesMut) {
        match self.below(3) {
            0 => wire::encode_reply_to(out, self.number(), self.small()),
            1 => wire::encode_draining(out, self.byte() & 1 != 0),
            _ => wire::encode_hello(out, &self.hello()),
        }
    }

    /// Now and then cuts off the end of what was written, or changes a byte of it.
    fn corrupt(&mut self, out: &mut BytesMut, from: usize) {
        match self.byte() {
            0..=7 => out.truncate(from + self.below(out.len() - from + 1)),
            8..=15 if out.len() > from => {
                let at = from + self.below(out.len() - from);
                out[at] ^= self.byte();
            }
            _ => {}
        }
    }

    pub(super) fn hello(&mut self) -> Hello {
        Hello {
            draining: self.byte() > 200,
            message_bytes_max: self.size(1 << 20) as u32,
            streams_max: self.small(),
            lanes_max: self.byte() % 8,
            lane_calls_max: self.size(100) as u16,
            lane_body_bytes_max: self.size(100) as u16,
            has_schemas: self.byte() & 1 != 0,
            has_headers: self.byte() & 1 != 0,
        }
    }

    fn schema(&mut self) -> Option<CallSchema> {
        (self.byte() & 3 == 0).then(|| CallSchema {
            is_checked: self.byte() & 1 != 0,
            only_checks: self.byte() & 1 != 0,
            ..CallSchema::unchecked(self.byte().into())
        })
    }

    fn reply(&mut self) -> ReplyHeader {
        let codes = [
            Code::Ok,
            Code::Overloaded,
            Code::Unimplemented,
            Code::InvalidRequest,
            Code::TooEarly,
        ];
        ReplyHeader {
            code: codes[self.below(codes.len())],
            processed: [Processed::No, Processed::Maybe, Processed::Yes][self.below(3)],
            retry_after: (self.byte() & 1 != 0).then(|| Duration::from_millis(self.number() >> 20)),
            load: self.load(),
            message: "m".repeat(self.below(64)),
        }
    }

    fn load(&mut self) -> LoadReport {
        let mut load = LoadReport::default();
        load.in_flight = self.small() as u16;
        load.draining = self.byte() > 200;
        load.busy = self.byte() > 200;
        load.queue_delay = Duration::from_micros(u64::from(self.small()));
        load
    }
}

/// Writes the methods of a correct lane, in order.
fn write_lane_methods(out: &mut BytesMut) {
    for (number, method) in (0..).zip(METHODS) {
        wire::encode_lane_method(out, number, method);
    }
}

/// Methods that the honest server has, and one that it does not have.
const METHODS: [&str; 7] = ["echo", "wait", "large", "count", "sum", "chat", "unknown"];
