use rpcnet_transport::service;

#[service]
trait Render<T> {
    async fn probe(&self, id: u64) -> u64;
}

fn main() {}
