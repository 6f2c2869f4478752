use rpcnet_transport::service;

#[service]
trait Render {
    #[rpc(hedge = 95)]
    async fn percent(&self, id: u64) -> u64;
    #[rpc(hedge = 1.0)]
    async fn one(&self, id: u64) -> u64;
    #[rpc(hedge = "0.95")]
    async fn text(&self, id: u64) -> u64;
}

fn main() {}
