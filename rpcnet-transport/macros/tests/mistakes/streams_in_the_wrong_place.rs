use rpcnet_transport::{Replies, Requests, service};

#[service]
trait Render {
    async fn argument(&self, parts: Replies<u64>) -> u64;
    async fn returned(&self, id: u64) -> Requests<u64>;
}

fn main() {}
