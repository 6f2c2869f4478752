use rpcnet_transport::{Requests, service};

#[service]
trait Render {
    #[rpc(since = 3)]
    async fn upload(&self, parts: Requests<u64>) -> u64;
    #[rpc(since = 3, self_describing)]
    async fn both(&self, id: u64) -> u64;
}

fn main() {}
