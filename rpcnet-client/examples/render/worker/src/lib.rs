//! Implementation of the render service.

use std::time::Duration;

use futures::{StreamExt, stream};
use render_api::{Estimate, Film, Frame, Job, Render, RenderError};
use rpcnet_client::{Replies, Requests};
use tokio::time::sleep;

/// Renders films.
#[derive(Debug, Clone)]
pub struct Renderer {
    /// Time for one frame.
    pub frame_time: Duration,
}

impl Render for Renderer {
    async fn estimate(&self, job: Job) -> Result<Estimate, RenderError> {
        Scene::of_job(&job)?;
        let time = self.frame_time * job.frames;
        Ok(Estimate {
            millis: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn frames(&self, job: Job) -> Result<Replies<Frame>, RenderError> {
        let scene = Scene::of_job(&job)?;
        let frame_time = self.frame_time;
        let frames = stream::iter(0..job.frames).then(move |number| async move {
            sleep(frame_time).await;
            let picture = scene.picture(number);
            Frame { number, picture }
        });
        Ok(Replies::new(frames))
    }

    async fn film(&self, mut frames: Requests<Frame>) -> Result<Film, RenderError> {
        let mut film = Film::default();
        loop {
            let number = film.pictures.len() as u32;
            match frames.message().await {
                Ok(Some(frame)) if frame.number == number => film.pictures.push(frame.picture),
                Ok(None) => return Ok(film),
                // An upload that breaks must not pass for a short film.
                Ok(Some(_)) | Err(_) => return Err(RenderError::MissingFrame { number }),
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Scene {
    Ball,
    Wave,
}

impl Scene {
    fn of_job(job: &Job) -> Result<Self, RenderError> {
        if job.frames > FRAMES_MAX {
            return Err(RenderError::TooLong {
                frames: job.frames,
                limit: FRAMES_MAX,
            });
        }
        match job.scene.as_str() {
            "ball" => Ok(Self::Ball),
            "wave" => Ok(Self::Wave),
            _ => Err(RenderError::UnknownScene {
                scene: job.scene.clone(),
            }),
        }
    }

    fn picture(self, number: u32) -> String {
        let at = number as usize % WIDTH;
        let pixel = |x| match self {
            Self::Ball if x == at => 'o',
            Self::Wave if (x + at) % 4 < 2 => '~',
            Self::Ball | Self::Wave => ' ',
        };
        (0..WIDTH).map(pixel).collect()
    }
}

/// Most frames of a film.
const FRAMES_MAX: u32 = 1_000;
/// Characters of a picture.
const WIDTH: usize = 8;

#[cfg(test)]
mod tests {
    use render_api::{RenderClient, RenderServer};
    use rpcnet_client::LocalChannel;

    use super::*;

    /// A client of the service without a network.
    fn client() -> RenderClient<LocalChannel> {
        let frame_time = Duration::from_millis(1);
        let server = RenderServer::new(Renderer { frame_time });
        RenderClient::new(LocalChannel::new(server))
    }

    fn job(scene: &str, frames: u32) -> Job {
        let scene = scene.to_owned();
        Job { scene, frames }
    }

    #[tokio::test]
    async fn frames_and_their_film_come_in_order() {
        let client = client();
        assert_eq!(client.estimate(job("ball", 3)).await.unwrap().millis, 3);
        let frames = client.frames(job("ball", 2)).await.unwrap();
        let frames: Vec<Frame> = frames.map(Result::unwrap).collect().await;
        let film = client.film(stream::iter(frames)).await.unwrap();
        assert_eq!(film.pictures, ["o       ", " o      "]);
    }

    #[tokio::test]
    async fn wrong_jobs_are_errors_of_the_service() {
        let client = client();
        let error = client.estimate(job("cube", 1)).await.unwrap_err();
        let scene = "cube".to_owned();
        assert_eq!(error.service(), Some(&RenderError::UnknownScene { scene }));
        let error = client.frames(job("ball", 1_001)).await.unwrap_err();
        assert_eq!(error.to_string(), "1001 frames are more than 1000");
        let second = Frame {
            number: 1,
            picture: String::new(),
        };
        let error = client.film(stream::iter([second])).await.unwrap_err();
        assert_eq!(error.to_string(), "frame 0 did not arrive");
    }
}
