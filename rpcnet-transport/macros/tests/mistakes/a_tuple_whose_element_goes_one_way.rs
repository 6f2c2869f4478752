#[derive(serde::Serialize, serde::Deserialize, rpcnet_transport::Message)]
struct Pair(#[serde(skip_serializing)] u8, u16);

fn main() {}
