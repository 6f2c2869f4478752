//! Streams of tonic: from the server, from the client, and both ways.

use std::{
    iter,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::{Status, Streaming, transport::Channel};
use xtask_load::{Body, Direction, Failure, Load, Report, StreamWindow};

use crate::tonic_tls::{Message, service::echo_client::EchoClient};

type Client = EchoClient<Channel>;

/// Items of as many bytes as the request says, until the caller goes.
pub(crate) fn send_items(
    request: &Message,
) -> Result<BoxStream<'static, Result<Message, Status>>, Status> {
    let bytes = (&request.body[..]).try_into().map(u64::from_le_bytes);
    let bytes = bytes.map_err(|_| Status::invalid_argument("no number of bytes"))?;
    Ok(items(bytes as usize).map(Ok).boxed())
}

/// Checks that items are the right ones; their number.
pub(crate) async fn check_items(mut items: Streaming<Message>) -> Result<Message, Status> {
    let mut expected: Option<Body> = None;
    let mut count = 0u64;
    while let Some(Message { body }) = items.message().await? {
        let expected = expected.get_or_insert_with(|| Body::new(0, body.len()));
        expected.advance();
        expected.check(&body).map_err(Status::invalid_argument)?;
        count += 1;
    }
    Ok(number(count))
}

/// Items through one stream, for as long as the load says.
pub(crate) async fn run(
    client: Client,
    load: Load,
    direction: Direction,
) -> Result<Report, Failure> {
    match direction {
        Direction::Down => down(client, load).await,
        Direction::Up => up(client, load).await,
        Direction::Both => both(client, load).await,
    }
}

async fn down(mut client: Client, load: Load) -> Result<Report, Failure> {
    let request = number(load.body_bytes as u64);
    let items = client.send_items(request).await?.into_inner();
    receive(items, load, 1).await
}

async fn both(mut client: Client, load: Load) -> Result<Report, Failure> {
    let request = items(load.body_bytes);
    let items = client.echo_items(request).await?.into_inner();
    receive(items, load, 2).await
}

async fn receive(
    mut items: Streaming<Message>,
    load: Load,
    directions: u64,
) -> Result<Report, Failure> {
    let mut expected = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        let item = items.message().await?.ok_or("the stream has ended")?;
        expected.advance();
        expected.check(&item.body)?;
        window.count();
    }
    Ok(window.report(directions))
}

async fn up(mut client: Client, load: Load) -> Result<Report, Failure> {
    // tonic takes items as the stream has room for them.
    let window = Arc::new(Mutex::new(StreamWindow::new(load)));
    let mut items = Body::new(0, load.body_bytes);
    let request = stream::iter({
        let window = Arc::clone(&window);
        iter::from_fn(move || {
            let mut window = window.lock().expect("no panic");
            if window.is_over() {
                return None;
            }
            window.count();
            let body = items.advance();
            Some(Message { body })
        })
    });
    let arrived = client.check_items(request).await?.into_inner();
    let window = window.lock().expect("no panic");
    if arrived != number(window.total()) {
        return Err(format!("not all of {} items arrived", window.total()).into());
    }
    Ok(window.report(1))
}

fn items(bytes: usize) -> impl futures::Stream<Item = Message> + Send + 'static {
    let mut items = Body::new(0, bytes);
    stream::repeat_with(move || Message {
        body: items.advance(),
    })
}

fn number(number: u64) -> Message {
    Message {
        body: Bytes::copy_from_slice(&number.to_le_bytes()),
    }
}
