use std::collections::HashMap;

use rpcnet_transport::Message;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Message)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
}

#[derive(Serialize, Deserialize, Message)]
#[serde(tag = "kind", content = "value")]
enum Tagged {
    Number(u64),
}

#[derive(Serialize, Deserialize, Message)]
struct Fields {
    #[serde(flatten)]
    rest: HashMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn main() {}
