//! Stored columns with changed files: refused, or they hold what was written.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use chain_he::params::profile;
use chain_he::store::{write_column, PACKING};
use chain_he::pass::Pass;
use chain_he::tiles::open;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    manifest: Option<Vec<u8>>,
    edits: Vec<(u16, u8)>,
    tiles: Option<(u32, u8)>,
    length: Option<u32>,
    name: String,
}

const PROFILE: &str = "S";
const BLOCK_BYTES: usize = 2 * 8192 * 8;

struct Place {
    folder: PathBuf,
    block: Vec<u8>,
    manifest: Vec<u8>,
    tiles: Vec<u8>,
}

fn place() -> &'static Place {
    static MADE: OnceLock<Place> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("fuzz-columns-{}", std::process::id()));
        let block: Vec<u8> = (0..BLOCK_BYTES as u64 / 8)
            .flat_map(|word| (word * 0x9e37_79b9 % (1 << 41)).to_le_bytes())
            .collect();
        let profile = profile(PROFILE).expect("known");
        write_column(&folder, "c", profile, 1, PACKING, &[&block]).expect("written");
        Place {
            manifest: fs::read(folder.join("c.json")).expect("there"),
            tiles: fs::read(folder.join("c.0.tiles")).expect("there"),
            folder,
            block,
        }
    })
}

fuzz_target!(|input: Input| {
    let place = place();
    let profile = profile(PROFILE).expect("known");
    let mut manifest = input
        .manifest
        .clone()
        .unwrap_or_else(|| place.manifest.clone());
    for (at, value) in input.edits.iter().take(8) {
        let length = manifest.len().max(1);
        if let Some(byte) = manifest.get_mut(usize::from(*at) % length) {
            *byte = *value;
        }
    }
    fs::write(place.folder.join("c.json"), &manifest).expect("written");
    let mut tiles = place.tiles.clone();
    if let Some((at, bits)) = input.tiles {
        let length = tiles.len();
        tiles[at as usize % length] ^= bits;
    }
    if let Some(length) = input.length {
        tiles.resize(length as usize % (2 * BLOCK_BYTES), 0);
    }
    // A new file each time: one that is mapped is never written in place.
    let path = place.folder.join("c.0.tiles");
    fs::write(path.with_extension("new"), &tiles).expect("written");
    fs::rename(path.with_extension("new"), &path).expect("renamed");
    if let Ok(columns) = open(&place.folder, PROFILE) {
        for name in columns.names() {
            let pass = Pass {
                limbs: 1,
                first_block: 0,
                block_count: columns.block_count(&name).expect("named"),
                threads: 1,
            };
            columns
                .verify(std::slice::from_ref(&name))
                .expect("just opened");
            let sum = columns.sum(&[name], &[1], pass).expect("computed");
            let bytes: Vec<u8> = sum.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert!(
                bytes == place.block,
                "changed files opened as if they were right"
            );
        }
    }
    drop(write_column(
        &place.folder.join("n"),
        &input.name,
        profile,
        1,
        PACKING,
        &[&tiles],
    ));
});
