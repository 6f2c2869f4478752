use rpcnet_transport::service;

#[service]
trait Render {
    async fn probe(&self, name: &str) -> u64;
}

fn main() {}
