use rpcnet_transport::service;

#[service]
trait Render {
    async fn pair(&self, (first, second): (u64, u64)) -> u64;
    async fn unnamed(&self, _: u64) -> u64;
}

fn main() {}
