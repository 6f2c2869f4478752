use rpcnet_transport::{Replies, service};

#[service]
trait Render {
    #[rpc(hedge = 0.95)]
    async fn frames(&self, id: u64) -> Replies<u64>;
}

fn main() {}
