use rpcnet_transport::service;

type Result<T> = std::result::Result<T, rpcnet_transport::Status>;

#[service]
trait Render {
    async fn probe(&self, id: u64) -> Result<u64>;
}

fn main() {}
