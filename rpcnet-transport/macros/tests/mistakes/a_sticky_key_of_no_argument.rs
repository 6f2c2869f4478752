use rpcnet_transport::service;

#[service]
trait Render {
    #[rpc(sticky = name)]
    async fn probe(&self, id: u64) -> u64;
}

fn main() {}
