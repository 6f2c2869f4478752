use rpcnet_transport::{CallContext, service};

#[service]
trait Render {
    async fn last(&self, id: u64, cx: &CallContext) -> u64;
    async fn owned(&self, cx: CallContext, id: u64) -> u64;
}

fn main() {}
