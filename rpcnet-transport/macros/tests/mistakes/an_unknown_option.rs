use rpcnet_transport::service;

#[service(nome = "Render2")]
trait First {
    async fn probe(&self, id: u64) -> u64;
}

#[service]
trait Second {
    #[rpc(idempotente)]
    async fn probe(&self, id: u64) -> u64;
    #[rpc(priority = urgent)]
    async fn frames(&self, id: u64) -> u64;
    #[rpc(idempotent, idempotent)]
    async fn twice(&self, id: u64) -> u64;
}

fn main() {}
