//! Frames with a length in front over plain TCP (`tokio_util::codec`), as tarpc has them below its
//! calls: the least that a stream of items needs. It has no calls, and is measured with streams
//! alone.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt};
use tarpc::tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio::{
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};
use xtask_load::{Body, Caller, Direction, Failure, Load, Report, Setup, StreamWindow, Subject};

type Frames = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;
type FrameSink = FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>;

pub(crate) struct FramesTcp;

/// Address of the server: each stream has a connection of its own.
#[derive(Clone)]
pub(crate) struct Address(SocketAddr);

impl Subject for FramesTcp {
    type Caller = Address;
    type Server = JoinHandle<()>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
        let listener = TcpListener::bind((setup.ip, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_stream(stream));
            }
        });
        Ok((address, task))
    }

    fn client(_setup: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Address, Failure> {
        Ok(Address(addr))
    }

    async fn stream(
        Address(addr): Address,
        load: Load,
        direction: Direction,
    ) -> Result<Report, Failure> {
        let (mut sink, frames) = framed(TcpStream::connect(addr).await?)?;
        let kind = match direction {
            Direction::Down => DOWN,
            Direction::Up => UP,
            Direction::Both => BOTH,
        };
        let mut request = BytesMut::new();
        request.put_u8(kind);
        request.put_u32_le(u32::try_from(load.body_bytes)?);
        sink.send(request.freeze()).await?;
        match direction {
            Direction::Down => receive(frames, load, 1).await,
            Direction::Up => send(sink, frames, load).await,
            Direction::Both => {
                let sender = tokio::spawn(send_items(sink, load.body_bytes));
                let report = receive(frames, load, 2).await;
                sender.abort();
                report
            }
        }
    }
}

impl Caller for Address {
    type Error = Failure;

    async fn call(&self, _body: Bytes) -> Result<Bytes, Failure> {
        Err("frames are measured as streams alone".into())
    }
}

async fn serve_stream(stream: TcpStream) -> Result<(), Failure> {
    let (mut sink, mut frames) = framed(stream)?;
    let request = frames.next().await.ok_or(ENDED)??;
    let &[kind, ref bytes @ ..] = &request[..] else {
        return Err("an empty request".into());
    };
    let bytes = u32::from_le_bytes(bytes.try_into()?) as usize;
    match kind {
        DOWN => send_items(sink, bytes).await,
        UP => {
            let mut expected = Body::new(0, bytes);
            let mut count = 0u64;
            while let Some(item) = frames.next().await {
                let item = item?;
                if item.is_empty() {
                    break;
                }
                expected.advance();
                expected.check(&item)?;
                count += 1;
            }
            Ok(sink
                .send(Bytes::copy_from_slice(&count.to_le_bytes()))
                .await?)
        }
        _ => echo(sink, frames).await,
    }
}

/// Sends each item back, together with those that are there already.
async fn echo(mut sink: FrameSink, mut frames: Frames) -> Result<(), Failure> {
    loop {
        let item = match frames.next().now_or_never() {
            Some(item) => item,
            None => {
                SinkExt::<Bytes>::flush(&mut sink).await?;
                frames.next().await
            }
        };
        sink.feed(item.ok_or(ENDED)??.freeze()).await?;
    }
}

async fn send_items(mut sink: FrameSink, bytes: usize) -> Result<(), Failure> {
    let mut items = Body::new(0, bytes);
    loop {
        // Written as soon as there is enough for a segment.
        sink.feed(items.advance()).await?;
    }
}

async fn receive(mut frames: Frames, load: Load, directions: u64) -> Result<Report, Failure> {
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        let item = frames.next().await.ok_or(ENDED)??;
        items.advance();
        items.check(&item)?;
        window.count();
    }
    Ok(window.report(directions))
}

async fn send(mut sink: FrameSink, mut frames: Frames, load: Load) -> Result<Report, Failure> {
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        sink.feed(items.advance()).await?;
        window.count();
    }
    // The end: it is answered with the number that arrived.
    sink.send(Bytes::new()).await?;
    let arrived = frames.next().await.ok_or(ENDED)??;
    if arrived[..] != window.total().to_le_bytes() {
        return Err(format!("not all of {} items arrived", window.total()).into());
    }
    Ok(window.report(1))
}

fn framed(stream: TcpStream) -> Result<(FrameSink, Frames), Failure> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let codec = || {
        LengthDelimitedCodec::builder()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_codec()
    };
    let mut sink = FramedWrite::new(write, codec());
    sink.set_backpressure_boundary(BUFFER_BYTES);
    let frames = FramedRead::with_capacity(read, codec(), BUFFER_BYTES);
    Ok((sink, frames))
}

const DOWN: u8 = 0;
const UP: u8 = 1;
const BOTH: u8 = 2;

const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes that are written or read at a time.
const BUFFER_BYTES: usize = 64 << 10;

const ENDED: &str = "the stream has ended";
