use rpcnet_transport::Message;

#[derive(serde::Serialize, serde::Deserialize, Message)]
#[message(until = 3)]
struct Unknown;

#[derive(serde::Serialize, serde::Deserialize, Message)]
#[message(since = "3")]
struct Text;

#[derive(serde::Serialize, serde::Deserialize, Message)]
#[message(since = 3, self_describing)]
struct Both;

fn main() {}
