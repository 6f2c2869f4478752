//! Rpcnet as the subject of a measurement.

use std::{any::Any, net::SocketAddr, num::NonZeroU32, time::Instant};

use bytes::Bytes;
use rpcnet_transport::{
    CallOptions, Endpoint, Message, Method, RpcClient, RpcError, Shards, TransportConfig,
};
use serde::{Deserialize, Serialize};
use xtask_harness::tls;
use xtask_load::{
    Body, CLIENT, Caller, Direction, Failure, Handshake, Load, Report, SERVER, Setup, Subject,
    answer, parallelism,
};
use xtask_report::Latencies;

use super::{
    streams,
    subjects::{BULK, ISOLATED, SHARDS, TYPED},
};

#[derive(Debug)]
pub(crate) struct Rpcnet {
    endpoint: Endpoint,
    options: CallOptions,
    is_typed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    client: RpcClient,
    options: CallOptions,
    is_typed: bool,
}

impl Subject for Rpcnet {
    type Caller = Connection;
    type Server = Box<dyn Any>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, Box<dyn Any>), Failure> {
        let router = streams::router()
            .raw("echo", |_cx, body| async move { Ok(answer(body)) })
            .with_replay_safe("echo")
            .method(ECHO, |sample| async move { sample });
        if setup.subject == SHARDS {
            let tls = tls(&setup.keys, SERVER)?;
            let any = (setup.ip, 0).into();
            let server = Shards::bind(any, config(setup), tls, parallelism())?;
            server.serve(router);
            return Ok((server.local_addr(), Box::new(server)));
        }
        let server = open_endpoint(setup, SERVER, config(setup))?.serve(router);
        Ok((server.local_addr(), Box::new(server)))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            endpoint: open_endpoint(setup, CLIENT, config(setup))?,
            options: CallOptions::new().with_isolated(setup.subject == ISOLATED),
            is_typed: setup.subject == TYPED,
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Connection, Failure> {
        Ok(Connection {
            client: self.endpoint.connect(addr, SERVER).await?,
            options: self.options,
            is_typed: self.is_typed,
        })
    }

    async fn stream(
        caller: Connection,
        load: Load,
        direction: Direction,
    ) -> Result<Report, Failure> {
        streams::run(&caller.client, load, direction).await
    }

    async fn reconnects(
        setup: &Setup,
        addr: SocketAddr,
        handshake: Handshake,
        count: usize,
    ) -> Result<Report, Failure> {
        let fresh = || open_endpoint(setup, CLIENT, config(setup));
        let early = handshake == Handshake::Early;
        let options = CallOptions::new().with_replay_safe(early);
        let mut body = Body::new(0, setup.body_bytes);
        let mut latencies = Latencies::default();
        let mut endpoint = fresh()?;
        for number in 0..=count {
            if handshake == Handshake::Full {
                // It has no sessions yet.
                endpoint = fresh()?;
            }
            let message = body.advance();
            let begin = Instant::now();
            let client = if early {
                endpoint.connect_early(addr, SERVER).await?
            } else {
                endpoint.connect(addr, SERVER).await?
            };
            let was_early = early && !client.is_confirmed();
            let reply = client.call_with("echo", message, options).await?;
            let latency = begin.elapsed();
            body.check(&reply)?;
            // The first one makes the session.
            if number > 0 {
                latencies.record(latency);
                if was_early != early {
                    return Err("there was no session for an early call".into());
                }
            }
            // By then the session for the next one is there.
            client.confirmed().await?;
            client.call("echo", body.advance()).await?;
            client.close("done");
        }
        match endpoint.stats().early_data_rejected {
            0 => Ok(Report {
                count: count as u64,
                latency: latencies.quantiles(),
                ..Report::default()
            }),
            rejected => Err(format!("{rejected} early calls were not taken").into()),
        }
    }
}

impl Caller for Connection {
    type Error = RpcError;

    async fn call(&self, body: Bytes) -> Result<Bytes, RpcError> {
        self.client.call_with("echo", body, self.options).await
    }

    async fn exchange(&self, body: &mut Body) -> Result<(), String> {
        if self.is_typed {
            let sample = Sample::new(body.advance_number());
            let reply = ECHO.call(&self.client, &sample).await;
            return match reply.map_err(|error| error.to_string())? == sample {
                true => Ok(()),
                false => Err(format!("wrong reply to {sample:?}")),
            };
        }
        let reply = self.call(body.advance()).await;
        body.check(&reply.map_err(|error| error.to_string())?)
    }
}

/// The typed method.
const ECHO: Method<Sample, Sample> = Method::new("Samples/echo");

/// Message of the typed method: six fields, 32 bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Message)]
struct Sample {
    number: u64,
    taken_at_us: u64,
    value: f64,
    bytes: u32,
    host: u16,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Message)]
enum Unit {
    Celsius,
    Percent,
}

impl Sample {
    fn new(number: u64) -> Self {
        Self {
            number,
            taken_at_us: 1_764_500_000_000_000,
            value: 21.5,
            bytes: 3_000_000_000,
            host: 40_000,
            unit: if number.is_multiple_of(2) {
                Unit::Celsius
            } else {
                Unit::Percent
            },
        }
    }
}

/// An endpoint of the side called `name`.
pub(crate) fn open_endpoint(
    setup: &Setup,
    name: &str,
    config: TransportConfig,
) -> Result<Endpoint, Failure> {
    let tls = tls(&setup.keys, name)?;
    Ok(Endpoint::bind((setup.ip, 0).into(), config, tls)?)
}

/// The settings that users have who say nothing else. But where a stream for each call is measured
/// there are as many streams as for the peer that it is compared with: twice the calls in flight.
fn config(setup: &Setup) -> TransportConfig {
    let config = match setup.subject.as_str() {
        BULK => TransportConfig::bulk(),
        _ => TransportConfig::lan(),
    };
    let config = config.with_early_data(setup.early_data);
    if setup.subject != ISOLATED {
        return config;
    }
    let streams = u32::try_from(2 * setup.in_flight).unwrap_or(u32::MAX);
    let streams = STREAMS_MIN.max(streams.try_into().unwrap_or(STREAMS_MIN));
    // The windows of a connection have room for those of all streams.
    let window = STREAM_WINDOW_BYTES_MAX.min(u32::MAX / streams);
    let window = NonZeroU32::new(window).unwrap_or(NonZeroU32::MIN);
    let windows = streams.saturating_mul(window);
    config
        .with_streams_max(streams)
        .with_stream_window_bytes(window)
        .with_connection_window_bytes(windows)
        .with_send_window_bytes(windows)
}

const STREAMS_MIN: NonZeroU32 = NonZeroU32::new(128).unwrap();
const STREAM_WINDOW_BYTES_MAX: u32 = 512 * 1_024;

#[cfg(test)]
mod tests {
    use xtask_harness::RunKeys;
    use xtask_load::Runtime;

    use super::*;
    use rpcnet_transport::Encode;

    #[test]
    fn the_typed_message_has_the_size_of_the_row() {
        let bytes = Sample::new((1 << 48) + 1).encode().unwrap().len();
        assert_eq!(bytes, super::super::subjects::TYPED_BODY_BYTES);
    }

    #[tokio::test]
    async fn a_stream_for_each_of_many_calls_is_a_valid_setting() {
        let keys = RunKeys::create("test").unwrap();
        keys.issue(SERVER).unwrap();
        let setup = Setup {
            subject: ISOLATED.to_owned(),
            keys: keys.folder().to_owned(),
            ip: [127, 0, 0, 1].into(),
            core: None,
            runtime: Runtime::Current,
            in_flight: 10_000,
            body_bytes: 32,
            connections: 0,
            early_data: false,
        };
        let endpoint = open_endpoint(&setup, SERVER, config(&setup));
        assert!(endpoint.is_ok(), "{:?}", endpoint.err());
    }
}
