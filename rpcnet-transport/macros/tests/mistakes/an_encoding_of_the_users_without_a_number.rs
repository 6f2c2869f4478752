use rpcnet_transport::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize, Message)]
struct Job {
    #[serde(with = "text")]
    id: u64,
}

#[derive(Serialize, Deserialize, Message)]
enum Event {
    #[serde(serialize_with = "text::serialize", deserialize_with = "text::deserialize")]
    Started(u64),
}

mod text {
    use super::*;

    pub fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn main() {}
