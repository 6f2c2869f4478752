//! One call over one stream: out with the request, in with the reply.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::{CallOptions, RatedReader, RpcClient, answer};
use crate::{
    Code, Processed, RpcError,
    accounts::Room,
    stream::{MadeCall, RecvCore, RecvHalf, SendCore, SendHalf, WriteFailure},
    wire::{self, Decoder, Flags, Frame, RequestHeader},
};

/// What goes over the connection.
impl RpcClient {
    /// One call on a stream of its own, until its deadline.
    pub(super) async fn exchange_until(
        &self,
        method: &str,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<Bytes, RpcError> {
        let mut sent = false;
        let call = self.exchange(method, body, options, deadline, &mut sent);
        let call = async {
            match deadline {
                Some(at) => timeout_at(at, call).await,
                None => Ok(call.await),
            }
        };
        match self.0.link.runtime.inside(call).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Err(out_of_time(sent)),
            Err(ended) => Err(ended.into_error(processed(sent))),
        }
    }

    /// Tells by `sent` whether all of the request was handed over.
    async fn exchange(
        &self,
        method: &str,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
        sent: &mut bool,
    ) -> Result<Bytes, RpcError> {
        let _in_flight = self.enter();
        let header = self.header(method, &body, options, Flags::default())?;
        let (mut send, mut recv) = self.open_stream().await?;
        self.send_request(&mut send, header, body, deadline).await?;
        send.finish();
        self.0.link.note_work(true);
        *sent = true;
        let mut reader = RatedReader::new(self.0.reply_rate, &self.0.link.runtime);
        match reader.frame(&mut recv).await {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.note_end();
                self.0.link.note_load(header.load);
                self.0.link.note_work(self.in_flight() > 1);
                answer::of_reply(header, body)
            }
            other => Err(answer::unreadable(other, send.index())),
        }
    }

    /// Begins a call with streams. What it returns carries the deadline on.
    pub(super) async fn begin(
        &self,
        method: &str,
        body: Bytes,
        flags: Flags,
        mut options: CallOptions,
    ) -> Result<(SendCore, RecvCore), RpcError> {
        let now = Instant::now();
        let opened_by = options
            .has_default_limit()
            .then(|| now.checked_add(self.0.call_timeout))
            .flatten();
        let deadline = options.settle(now, None);
        // What has no deadline of its own has no end, but it has a beginning.
        let opened_by = deadline.or(opened_by);
        self.begin_by(method, body, flags, options, opened_by).await
    }

    /// Begins a call with streams, with options that were settled, until this time.
    async fn begin_by(
        &self,
        method: &str,
        body: Bytes,
        flags: Flags,
        options: CallOptions,
        opened_by: Option<Instant>,
    ) -> Result<(SendCore, RecvCore), RpcError> {
        let now = Instant::now();
        let deadline = options.settled_deadline();
        if let Some(early) = &self.0.early {
            let client = self.wait_for(early, opened_by).await;
            let client = client.map_err(|e| self.of_peer(e))?;
            return Box::pin(client.begin_by(method, body, flags, options, opened_by)).await;
        }
        if let Some(refusal) = self.refusal(now, deadline) {
            return Err(self.of_peer(refusal));
        }
        let in_flight = Arc::new(self.enter());
        let beginning = async {
            let header = self.header(method, &body, &options, flags)?;
            let (mut send, recv) = self.open_stream().await?;
            self.send_request(&mut send, header, body, deadline).await?;
            Ok((send, recv))
        };
        let begun = match opened_by {
            Some(at) => {
                let begun = async { timeout_at(at, beginning).await };
                match self.0.link.runtime.inside(begun).await {
                    Ok(begun) => begun.unwrap_or_else(|_| Err(out_of_time(false))),
                    Err(ended) => Err(ended.into_error(Processed::No)),
                }
            }
            None => {
                let begun = self.0.link.runtime.inside(beginning).await;
                begun.unwrap_or_else(|ended| Err(ended.into_error(Processed::No)))
            }
        };
        let (send, recv) = begun.map_err(|e| self.of_peer(e))?;
        let index = send.index();
        let recv = RecvCore::of_caller(
            recv,
            self.0.link.runtime.clone(),
            self.0.peer.clone(),
            deadline,
            MadeCall {
                stream_index: index,
                rate: self.0.reply_rate,
                local_end: self.0.link.local_end.clone(),
                in_flight: Some(Arc::clone(&in_flight)),
            },
        );
        let send = SendCore::of_caller(
            send,
            self.0.link.runtime.clone(),
            self.0.peer.clone(),
            self.0.request_bytes_max,
            deadline,
            self.0.link.local_end.clone(),
            in_flight,
        );
        Ok((send, recv))
    }

    /// Refuses what no carrier can take.
    pub(super) fn check(&self, method: &str, body: &Bytes) -> Result<(), RpcError> {
        if method.is_empty() || method.len() > wire::METHOD_BYTES_MAX {
            return Err(RpcError::new(
                Code::InvalidRequest,
                Processed::No,
                format!(
                    "invalid method name: it has {} bytes, not 1 to 255",
                    method.len()
                ),
            ));
        }
        if body.len() > self.0.request_bytes_max {
            return Err(crate::stream::too_large(
                body.len(),
                self.0.request_bytes_max,
            ));
        }
        Ok(())
    }

    pub(super) fn header(
        &self,
        method: &str,
        body: &Bytes,
        options: &CallOptions,
        flags: Flags,
    ) -> Result<RequestHeader, RpcError> {
        self.check(method, body)?;
        Ok(RequestHeader {
            method: method.to_owned(),
            attempt: options.attempt,
            flags: Flags {
                idempotent: options.idempotent,
                ..flags
            },
            priority: options.priority(),
            idempotency_key: options.idempotency_key.map(u128::from_le_bytes),
            deadline: None,
        })
    }

    async fn open_stream(&self) -> Result<(SendHalf, RecvHalf), RpcError> {
        let connection = &self.0.connection;
        let opened = match connection.open_bi().now_or_never() {
            Some(opened) => opened,
            None => {
                let _waits = self.0.link.wait_for_stream();
                connection.open_bi().await
            }
        };
        let (send, recv) = opened.map_err(answer::lost_before_sending)?;
        let decoder = Decoder::answers(self.0.answer_bytes_max);
        let room = Room::of(Arc::clone(&self.0.account));
        let mut recv = RecvHalf::new(recv, decoder, room);
        // A call may be kept without being polled.
        recv.wait_for_room_in(self.0.link.runtime.clone());
        Ok((SendHalf::new(send, Arc::clone(&self.0.turns)), recv))
    }

    async fn send_request(
        &self,
        send: &mut SendHalf,
        mut header: RequestHeader,
        body: Bytes,
        deadline: Option<Instant>,
    ) -> Result<(), RpcError> {
        // What is left when the bytes leave, so that waiting for a stream is not counted twice.
        let now = Instant::now();
        if is_over(deadline, now) {
            return Err(out_of_time(false));
        }
        header.deadline = deadline.map(|at| at.saturating_duration_since(now));
        let head = crate::stream::begin_call(&header, body.len());
        match send.write(head, body, None).await {
            // A server that stops a request has answered it: the reason is there to be read.
            Ok(()) | Err(WriteFailure::Stopped) => Ok(()),
            Err(WriteFailure::Lost(e)) => Err(answer::lost_before_sending(e)),
            Err(WriteFailure::Stalled | WriteFailure::Closed) => {
                unreachable!("a new stream without a limit on waiting")
            }
        }
    }
}

fn processed(sent: bool) -> Processed {
    if sent {
        Processed::Maybe
    } else {
        Processed::No
    }
}

pub(super) fn draining() -> RpcError {
    RpcError::new(
        Code::Draining,
        Processed::No,
        "the server takes no new calls",
    )
}

pub(super) fn is_over(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|at| at <= now)
}

pub(super) fn out_of_time(sent: bool) -> RpcError {
    if sent {
        RpcError::new(
            Code::DeadlineExceeded,
            Processed::Maybe,
            "deadline exceeded before the reply arrived",
        )
    } else {
        RpcError::new(
            Code::DeadlineExceeded,
            Processed::No,
            "deadline exceeded before the request was sent",
        )
    }
}
