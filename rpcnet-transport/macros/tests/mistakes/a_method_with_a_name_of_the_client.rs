use rpcnet_transport::service;

#[service]
trait Render {
    async fn new(&self, id: u64) -> u64;
    async fn all(&self) -> Vec<u64>;
}

fn main() {}
