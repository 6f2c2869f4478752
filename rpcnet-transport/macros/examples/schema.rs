//! A derived message: what serde writes and reads, as the schema says it.
//!
//! `cargo run -p rpcnet-transport-macros --example schema`

use rpcnet_transport::{
    Message,
    schema::{Field, SchemaBuilder},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Message)]
#[serde(rename_all = "camelCase")]
struct Job {
    id: u64,
    frame_count: u32,
    #[serde(default, alias = "codec_name")]
    codec: Codec,
}

#[derive(Debug, Default, Serialize, Deserialize, Message)]
enum Codec {
    #[default]
    Av1,
    Raw {
        bits: u8,
    },
}

fn main() {
    let mut schema = SchemaBuilder::default();
    let job = schema.add::<Job>();
    println!("{job:?} of {schema:#?}");
    let required = Field::new("frameCount", schema.add::<u32>());
    println!("a peer that does not write this field is incompatible: {required:?}");
}
