use rpcnet_transport::service;

#[derive(serde::Serialize, serde::Deserialize)]
struct Job(u64);

#[service]
trait Render {
    async fn probe(&self, job: Job) -> u64;
    async fn result(&self) -> Result<u64, Job>;
}

fn main() {}
