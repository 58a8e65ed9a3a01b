//! Generates client and server of the service between nodes. Its messages are our own types, so that no
//! protocol buffers compiler is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let deliver = Method::builder()
        .name("deliver")
        .route_name("Deliver")
        .input_type("crate::transport::Frame")
        .output_type("crate::transport::Delivered")
        .codec_path("tonic_prost::ProstCodec")
        .client_streaming()
        .build();
    let peer = Service::builder().name("Peer").package("cairn.v1").method(deliver).build();
    Builder::new().compile(&[peer]);
}
