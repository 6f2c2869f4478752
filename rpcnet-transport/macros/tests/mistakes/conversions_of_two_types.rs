use rpcnet_transport::Message;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Message)]
#[serde(from = "u32", into = "u64")]
struct Id(u64);

impl From<u32> for Id {
    fn from(id: u32) -> Self {
        Self(id.into())
    }
}

impl From<Id> for u64 {
    fn from(id: Id) -> Self {
        id.0
    }
}

fn main() {}
