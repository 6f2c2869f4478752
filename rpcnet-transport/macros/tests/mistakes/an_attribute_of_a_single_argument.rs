use rpcnet_transport::service;

#[service]
trait Render {
    async fn probe(&self, #[serde(default)] id: u64) -> u64;
}

fn main() {}
