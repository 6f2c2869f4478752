use rpcnet_transport::service;

#[service]
trait Render {
    async fn probe<T: Send>(&self, id: T) -> u64;
    async fn any(&self, id: impl Into<u64> + Send) -> u64;
}

fn main() {}
