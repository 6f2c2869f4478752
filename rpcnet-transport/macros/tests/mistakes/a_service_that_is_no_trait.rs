use rpcnet_transport::service;

#[service]
struct Render;

fn main() {}
