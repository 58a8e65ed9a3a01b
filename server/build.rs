//! Generates client and server of the service for administration. Its messages are our own types, so that no
//! protocol buffers compiler is needed.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "tonic_prost::ProstCodec";

fn main() {
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
    Builder::new().compile(&[admin.build()]);
}
