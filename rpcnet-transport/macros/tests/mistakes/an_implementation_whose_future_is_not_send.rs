use rpcnet_transport::service;

use std::rc::Rc;

#[service]
trait Render {
    async fn probe(&self, id: u64) -> u64;
}

struct Renderer;

impl Render for Renderer {
    async fn probe(&self, id: u64) -> u64 {
        let shared = Rc::new(id);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}
