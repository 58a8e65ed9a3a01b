//! Generates client and server of the services between nodes. Their messages are our own types, so that no
//! protocol buffers compiler is needed.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "tonic_prost::ProstCodec";

fn main() {
    let deliver = Method::builder()
        .name("deliver")
        .route_name("Deliver")
        .input_type("crate::transport::Frame")
        .output_type("crate::transport::Delivered")
        .codec_path(CODEC)
        .client_streaming()
        .build();
    let peer = Service::builder().name("Peer").package("cairn.v1").method(deliver).build();
    let mut admin = Service::builder().name("Admin").package("cairn.v1");
    for (name, route) in [("init", "Init"), ("join", "Join"), ("status", "Status")] {
        let method = Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::cluster::message::{route}Request"))
            .output_type(format!("crate::cluster::message::{route}Answer"))
            .codec_path(CODEC)
            .build();
        admin = admin.method(method);
    }
    Builder::new().compile(&[peer, admin.build()]);
}
