//! Writes the Rust half of `make protos`: prost types from the .proto files, without `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args()
        .nth(1)
        .ok_or("usage: protogen REPOSITORY_ROOT")?;
    let root = Path::new(&root);
    let files = ["types"].map(|name| format!("chainnode/v1/{name}.proto"));
    let descriptors = protox::compile(&files, [root.join("protos")])?;
    prost_build::Config::new()
        .out_dir(root.join("crates/chain-types/src/proto"))
        .compile_fds(descriptors)?;
    Ok(())
}
