use rpcnet_transport::service;

#[service]
trait Render {
    fn probe(&self, id: u64) -> u64;
}

fn main() {}
