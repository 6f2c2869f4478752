//! Benchmarks of a call: the framing alone, and the whole path over loopback with TLS.

use std::{hint::black_box, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rpcnet_transport::{
    CallContext, DevCa, Endpoint, Priority, Raw, Router, RpcClient, RpcServer, Sender,
    TransportConfig,
    wire::{self, Decoder, Frame, Preface, RequestFlags, RequestHeader, StreamKind},
};
use tokio::runtime::{Builder, Runtime};

fn codec(c: &mut Criterion) {
    let header = RequestHeader {
        method: "compute".to_owned(),
        attempt: 0,
        flags: RequestFlags::default(),
        priority: Priority::default(),
        idempotency_key: None,
        schema: None,
        deadline: Some(Duration::from_secs(10)),
    };
    let body = Bytes::from(vec![7; 64]);
    let encode = |out: &mut BytesMut| {
        out.extend_from_slice(
            &Preface {
                kind: StreamKind::Call,
            }
            .encode(),
        );
        wire::encode_request(out, &header, body.len());
        out.extend_from_slice(&body);
    };
    let mut group = c.benchmark_group("frame");
    group.bench_function("encode request, 64 B", |b| {
        let mut out = BytesMut::with_capacity(256);
        b.iter(|| {
            out.clear();
            encode(black_box(&mut out));
        });
    });
    let mut bytes = BytesMut::new();
    encode(&mut bytes);
    let bytes = bytes.freeze();
    group.bench_function("decode request, 64 B", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(StreamKind::Call, 1 << 20);
            decoder.push(black_box(bytes.clone()));
            let Ok(Some(Frame::Request(_, body))) = decoder.next_frame() else {
                unreachable!("it was encoded above")
            };
            body
        });
    });
    group.finish();
}

fn pair(runtime: &Runtime) -> (RpcServer, RpcClient) {
    runtime.block_on(async {
        let ca = DevCa::new("bench");
        let router = Router::new()
            .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
            .server_streaming("pour", |_cx, items: u32, mut out: Sender<Raw>| async move {
                let item = Bytes::from(vec![0; ITEM_BYTES]);
                for _ in 0..items {
                    out.send(Raw(item.clone())).await?;
                }
                Ok(())
            });
        let open = |name| {
            let tls = ca.issue(name).expect("a node name");
            let addr = "127.0.0.1:0".parse().expect("an address");
            Endpoint::bind(addr, TransportConfig::lan(), tls).expect("a free port")
        };
        let server = open("server").serve(router);
        let client = open("client").connect(server.local_addr(), "server").await;
        (server, client.expect("a connection"))
    })
}

fn calls(c: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (_server, client) = pair(&runtime);
    let mut group = c.benchmark_group("call");
    for bytes in [64, 64 * 1024] {
        let body = Bytes::from(vec![7; bytes]);
        group.bench_function(format!("unary, {bytes} B"), |b| {
            b.iter(|| {
                let call = client.call("echo", body.clone());
                runtime.block_on(call).expect("a reply")
            });
        });
    }
    group.throughput(Throughput::Bytes(u64::from(ITEMS) * ITEM_BYTES as u64));
    group.bench_function("server stream, 100 x 16 KiB", |b| {
        let stream = || async {
            let items = client.call_server_streaming::<_, Raw>("pour", &ITEMS).await;
            let mut items = items.expect("a stream");
            while items.message().await.expect("an item").is_some() {}
        };
        b.iter(|| runtime.block_on(stream()));
    });
    group.finish();
}

const ITEMS: u32 = 100;
const ITEM_BYTES: usize = 16 * 1024;

criterion_group!(benches, codec, calls);
criterion_main!(benches);
