//! Tests of the gateway's logic: with a mock of the service, and in a cluster that loses a worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use render_api::{Estimate, Frame, RenderMock, RenderServer};
use render_worker::Renderer;
use rpcnet_client::{
    Code, Processed, Replies, Router, RpcError,
    testing::{TestCluster, TestNode},
};

use super::*;

fn job(scene: &str, frames: u32) -> Job {
    let scene = scene.to_owned();
    Job { scene, frames }
}

fn frame(number: u32) -> Frame {
    let picture = format!("picture {number}");
    Frame { number, picture }
}

/// A mock whose films are the pictures of their frames.
fn mock() -> RenderMock {
    let mock = RenderMock::new();
    mock.on_estimate(|_| Ok(Estimate { millis: 40 }));
    mock.on_film(|frames| async move {
        let pictures = frames.map(|frame| frame.expect("a frame").picture);
        Ok(Film {
            pictures: pictures.collect().await,
        })
    });
    mock
}

#[tokio::test]
async fn a_film_has_the_frames_of_its_job() {
    let mock = mock();
    mock.on_frames(|job| Ok(Replies::of((0..job.frames).map(frame))));
    let rendered = render(&mock.client(), &job("ball", 2)).await.unwrap();
    assert_eq!(rendered.estimate_millis, 40);
    assert_eq!(rendered.film.pictures, ["picture 0", "picture 1"]);
    assert_eq!(mock.frames_calls(), [job("ball", 2)]);
}

#[tokio::test]
async fn a_stream_that_breaks_begins_again() {
    let mock = mock();
    let calls = Arc::new(AtomicU32::new(0));
    mock.on_frames(move |_| {
        let is_first = calls.fetch_add(1, SeqCst) == 0;
        let lost = || RpcError::new(Code::Unavailable, Processed::Maybe, "connection lost");
        let second = if is_first { Err(lost()) } else { Ok(frame(1)) };
        Ok(Replies::forwarded(stream::iter([Ok(frame(0)), second])))
    });
    let rendered = render(&mock.client(), &job("ball", 2)).await.unwrap();
    assert_eq!(rendered.film.pictures, ["picture 0", "picture 1"]);
    assert_eq!(mock.frames_count(), 2);
}

#[tokio::test]
async fn an_error_of_the_service_is_final() {
    let mock = mock();
    let unknown = RenderError::UnknownScene {
        scene: "cube".to_owned(),
    };
    let refusal = unknown.clone();
    mock.on_frames(move |_| Err(refusal.clone()));
    let error = render(&mock.client(), &job("cube", 1)).await.unwrap_err();
    assert_eq!(error.service(), Some(&unknown));
    assert_eq!(mock.frames_count(), 1);
}

/// Two workers in virtual time; one is killed while both render.
#[tokio::test(start_paused = true)]
async fn all_films_are_rendered_when_a_worker_is_killed() {
    let cluster = TestCluster::seeded(7);
    let router = || {
        let frame_time = Duration::from_millis(100);
        Router::from(RenderServer::new(Renderer { frame_time }))
    };
    let gateway = cluster.start("gateway", |node| node).await;
    let worker = |name| cluster.start(name, move |node| node.serve(router()));
    let (killed, other) = (worker("worker-1").await, worker("worker-2").await);
    cluster.eventually(|| cluster.has_converged()).await;

    let service = RenderClient::new(gateway.client().workers(None));
    let jobs: Vec<Job> = (10..20).map(|frames| job("ball", frames)).collect();
    let films = join_all(jobs.iter().map(|job| render(&service, job)));
    let kill = async {
        let calls = |node: &TestNode| node.node().endpoint().stats().calls_started;
        cluster
            .eventually(|| calls(&killed) > 5 && calls(&other) > 5)
            .await;
        killed.kill();
    };
    let (films, ()) = tokio::join!(films, kill);
    for (job, film) in jobs.iter().zip(films) {
        let pictures = film.expect("a film").film.pictures;
        assert_eq!(pictures.len(), job.frames as usize);
    }
}
