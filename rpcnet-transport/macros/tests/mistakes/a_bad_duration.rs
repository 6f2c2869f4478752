use rpcnet_transport::service;

#[service]
trait Render {
    #[rpc(timeout = "2 seconds")]
    async fn words(&self, id: u64) -> u64;
    #[rpc(timeout = 2)]
    async fn number(&self, id: u64) -> u64;
    #[rpc(attempt_timeout = "0ms")]
    async fn nothing(&self, id: u64) -> u64;
}

fn main() {}
