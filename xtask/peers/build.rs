//! The service that tonic serves, without protoc.

fn main() {
    let echo = tonic_build::manual::Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type("crate::tonic_tls::Message")
        .output_type("crate::tonic_tls::Message")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = tonic_build::manual::Service::builder()
        .name("Echo")
        .package("bench")
        .method(echo)
        .build();
    tonic_build::manual::Builder::new().compile(&[service]);
}
