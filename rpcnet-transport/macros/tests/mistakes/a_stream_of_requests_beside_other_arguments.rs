use rpcnet_transport::{Requests, service};

#[service]
trait Render {
    async fn last(&self, id: u64, parts: Requests<u64>) -> u64;
    async fn first(&self, parts: Requests<u64>, id: u64) -> u64;
    async fn two(&self, parts: Requests<u64>, more: Requests<u64>) -> u64;
}

fn main() {}
