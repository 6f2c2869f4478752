#[derive(serde::Serialize, serde::Deserialize, rpcnet_transport::Message)]
struct Job<'a> {
    name: &'a str,
}

fn main() {}
