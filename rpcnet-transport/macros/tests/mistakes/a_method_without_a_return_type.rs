use rpcnet_transport::service;

#[service]
trait Render {
    async fn probe(&self, id: u64);
}

fn main() {}
