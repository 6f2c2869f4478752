//! The service that tonic serves, without protoc.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::tonic_tls::Message")
            .output_type("crate::tonic_tls::Message")
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .name("Echo")
        .package("bench")
        .method(method("echo", "Echo").build())
        .method(method("send_items", "SendItems").server_streaming().build())
        .method(
            method("check_items", "CheckItems")
                .client_streaming()
                .build(),
        )
        .method(
            method("echo_items", "EchoItems")
                .client_streaming()
                .server_streaming()
                .build(),
        )
        .build();
    Builder::new().compile(&[service]);
}
