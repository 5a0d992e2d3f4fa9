//! Column files: written once, checked when opened, mapped for the kernels.
//!
//! One file per (column, limb plane), `<column>.<limb>.tiles`: for each of the two polynomials
//! [N / 64 tiles][block][64 coefficients] of little-endian words. `<column>.json` describes them
//! and names each plane's Merkle root: a leaf is a tile of one polynomial, hashed as in RFC 6962.

use std::fs::{self, File, Metadata};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{refuse, HeError, HeResult};
use crate::guard::Guard;
use crate::kernels::TILE;
use crate::params::Profile;

const FORMAT: u32 = 2;
const NAME_BYTES_MAX: usize = 128;
const BLOCKS_MAX: usize = 1 << 20;
const LEAF_PREFIX: [u8; 1] = [0];
const NODE_PREFIX: [u8; 1] = [1];

type Hash = [u8; 32];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    column: String,
    profile: String,
    limbs: usize,
    blocks: usize,
    roots: Vec<String>,
    // Place of a proof that every block is an honest encryption; none is made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

/// A limb plane of a column.
pub(crate) struct Plane {
    path: PathBuf,
    identity: (u64, u64),
    // Before the mapping: fields are dropped in order.
    guard: Guard,
    map: Mmap,
    leaf_bytes: usize,
    /// The Merkle root the column was written with.
    pub root: Hash,
}

/// A stored column.
pub(crate) struct Column {
    pub name: String,
    pub limbs: usize,
    pub blocks: usize,
    pub planes: Vec<Plane>,
}

#[cfg(unix)]
fn identity(data: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (data.dev(), data.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

fn corrupt<T>(path: &Path, reason: &str) -> HeResult<T> {
    Err(HeError::Corrupt(format!("{} {reason}", path.display())))
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(path: &Path, text: &str) -> HeResult<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return corrupt(path, "has no valid Merkle root");
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(hash)
}

// RFC 6962: the left subtree is the largest full one.
fn root(leaves: &[Hash]) -> Hash {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let node = Sha256::new_with_prefix(NODE_PREFIX);
    node.chain_update(root(left))
        .chain_update(root(right))
        .finalize()
        .into()
}

fn check_name(column: &str) -> HeResult<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.=".contains(c);
    if column.is_empty()
        || column.len() > NAME_BYTES_MAX
        || column.starts_with('.')
        || !column.chars().all(plain)
    {
        return refuse(format!(
            "column name {column:?} is not plain letters, digits, _ - . ="
        ));
    }
    Ok(())
}

pub(crate) fn io_error(path: &Path, error: &std::io::Error) -> HeError {
    HeError::Refused(format!("{}: {error}", path.display()))
}

fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> HeResult<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(part)?);
        fill(&mut file)?;
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_data()?;
        fs::rename(part, path)
    };
    write().map_err(|error| io_error(path, &error))
}

/// Writes a column of two-polynomial ciphertexts; an older column of that name is replaced.
pub fn write_column(
    directory: &Path,
    column: &str,
    profile: &Profile,
    limbs: usize,
    blocks: &[&[u8]],
) -> HeResult<()> {
    check_name(column)?;
    profile.check_limbs(limbs)?;
    if blocks.is_empty() || blocks.len() > BLOCKS_MAX {
        return refuse(format!(
            "a column holds 1 to {BLOCKS_MAX} blocks, got {}",
            blocks.len()
        ));
    }
    let ring = profile.ring;
    let tiles = ring.degree / TILE;
    for block in blocks {
        ring.parse("block", block, 2, limbs)?;
    }
    fs::create_dir_all(directory).map_err(|error| io_error(directory, &error))?;
    let mut roots = Vec::with_capacity(limbs);
    for limb in 0..limbs {
        let mut leaves = Vec::with_capacity(2 * tiles);
        write_file(&directory.join(format!("{column}.{limb}.tiles")), |file| {
            for piece in 0..2 * tiles {
                let (polynomial, tile) = (piece / tiles, piece % tiles);
                let start = ((polynomial * limbs + limb) * ring.degree + tile * TILE) * 8;
                let mut leaf = Sha256::new_with_prefix(LEAF_PREFIX);
                for block in blocks {
                    let piece = &block[start..start + TILE * 8];
                    leaf.update(piece);
                    file.write_all(piece)?;
                }
                leaves.push(leaf.finalize().into());
            }
            Ok(())
        })?;
        roots.push(hex(&root(&leaves)));
    }
    let manifest = Manifest {
        format: FORMAT,
        column: column.to_owned(),
        profile: profile.name.to_owned(),
        limbs,
        blocks: blocks.len(),
        roots,
        proof: None,
    };
    let text =
        serde_json::to_vec(&manifest).map_err(|error| HeError::Refused(error.to_string()))?;
    write_file(&directory.join(format!("{column}.json")), |file| {
        file.write_all(&text)
    })
}

impl Plane {
    fn open(path: PathBuf, bytes: usize, leaf_bytes: usize, root: Hash) -> HeResult<Self> {
        let file = File::open(&path).map_err(|error| io_error(&path, &error))?;
        // SAFETY: the folder belongs to this process and its files are replaced by renaming, never
        // written in place; one that is cut short is noticed by the guard.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| io_error(&path, &error))?;
        if map.len() != bytes {
            return corrupt(&path, &format!("is not {bytes} bytes"));
        }
        let guard = Guard::new(&map)?;
        let data = file.metadata().map_err(|error| io_error(&path, &error))?;
        let plane = Self {
            path,
            identity: identity(&data),
            guard,
            map,
            leaf_bytes,
            root,
        };
        plane.verify()?;
        Ok(plane)
    }

    // Compares the bytes with the root they were written with.
    fn verify(&self) -> HeResult<()> {
        let leaf = |tile| {
            Sha256::new_with_prefix(LEAF_PREFIX)
                .chain_update(tile)
                .finalize()
                .into()
        };
        let leaves: Vec<Hash> = self.map.chunks_exact(self.leaf_bytes).map(leaf).collect();
        if root(&leaves) != self.root {
            return corrupt(
                &self.path,
                "does not have the Merkle root it was written with",
            );
        }
        self.check_intact()
    }

    /// Refuses a file that shrank since it was opened.
    pub fn check_intact(&self) -> HeResult<()> {
        // A file that replaced this one under its name does not matter: the mapping keeps its own.
        let shrank = fs::metadata(&self.path).is_ok_and(|data| {
            identity(&data) == self.identity && data.len() != self.map.len() as u64
        });
        if self.guard.struck() || shrank {
            return corrupt(&self.path, "changed its length after it was opened");
        }
        Ok(())
    }

    /// The residues, in place.
    pub fn words(&self) -> HeResult<&[u64]> {
        match bytemuck::try_cast_slice(&self.map) {
            Ok(words) if cfg!(target_endian = "little") => Ok(words),
            _ => refuse("tiles cannot be read in place on this machine"),
        }
    }
}

impl Column {
    /// Maps and checks the column a manifest describes.
    pub fn open(profile: &Profile, directory: &Path, path: &Path) -> HeResult<Self> {
        let text = fs::read(path).map_err(|error| io_error(path, &error))?;
        let manifest: Manifest = match serde_json::from_slice(&text) {
            Ok(manifest) => manifest,
            Err(error) => return corrupt(path, &format!("is not a column manifest: {error}")),
        };
        check_name(&manifest.column)?;
        profile.check_limbs(manifest.limbs)?;
        if manifest.format != FORMAT || manifest.profile != profile.name {
            return refuse(format!(
                "column {} is format {} of profile {}",
                manifest.column, manifest.format, manifest.profile
            ));
        }
        if manifest.blocks == 0 || manifest.blocks > BLOCKS_MAX {
            return corrupt(path, "has no valid block count");
        }
        if manifest.roots.len() != manifest.limbs {
            return corrupt(path, "does not name one root a limb");
        }
        let leaf_bytes = manifest.blocks * TILE * 8;
        let bytes = 2 * manifest.blocks * profile.ring.degree * 8;
        let planes = (0..manifest.limbs)
            .map(|limb| {
                let root = parse_hex(path, &manifest.roots[limb])?;
                let file = directory.join(format!("{}.{limb}.tiles", manifest.column));
                Plane::open(file, bytes, leaf_bytes, root)
            })
            .collect::<HeResult<Vec<_>>>()?;
        Ok(Self {
            name: manifest.column,
            limbs: manifest.limbs,
            blocks: manifest.blocks,
            planes,
        })
    }

    /// Compares every plane with its root.
    pub fn verify(&self) -> HeResult<()> {
        self.planes.iter().try_for_each(Plane::verify)
    }
}
