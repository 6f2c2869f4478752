#[derive(serde::Serialize, serde::Deserialize)]
struct Foreign;

#[derive(serde::Serialize, serde::Deserialize, rpcnet_transport::Message)]
struct Job {
    id: u64,
    foreign: Vec<Foreign>,
}

fn main() {}
