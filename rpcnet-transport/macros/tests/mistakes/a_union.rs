#[derive(rpcnet_transport::Message)]
union Number {
    small: u8,
    large: u64,
}

fn main() {}
