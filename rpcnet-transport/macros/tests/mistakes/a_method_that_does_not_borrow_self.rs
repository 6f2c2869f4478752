use rpcnet_transport::service;

#[service]
trait Render {
    async fn by_value(self, id: u64) -> u64;
    async fn exclusive(&mut self, id: u64) -> u64;
    async fn boxed(self: Box<Self>) -> u64;
    async fn none(id: u64) -> u64;
}

fn main() {}
