use rpcnet_transport::service;

#[service]
trait Render {
    async fn probe(&self, id: u64) -> u64;
    #[rpc(name = "Render/probe")]
    async fn frames(&self, id: u64) -> u64;
}

fn main() {}
