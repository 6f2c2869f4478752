use rpcnet_transport::service;

#[service]
trait Render {
    type Job;
    const LIMIT: u64;
    async fn probe(&self, id: u64) -> u64;
}

fn main() {}
