//! Column files: written once, checked when opened, mapped for the kernels.
//!
//! One file per (column, limb plane), `<column>.<limb>.tiles`: a page that says how the tiles are
//! stored (`Header`), then for each of the two polynomials [N / 64 tiles][block][64 residues] of
//! eight or six bytes, little endian. `<column>.json` describes them and names each plane's Merkle
//! root: the first leaf is the header page, every other a tile of one polynomial, hashed as in
//! RFC 6962.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encoder::bytes_of;
use crate::error::{refuse, HeError, HeResult};
use crate::guard::Guard;
use crate::kernels::{Packing, Source, TILE};
use crate::params::Profile;
use crate::readahead::{ask, evict};

// Read ahead of the hashing.
const READ_BYTES: usize = 4 << 20;
const FORMAT: u32 = 3;
const MAGIC: &[u8; 8] = b"HE tiles";
/// Bytes before the first tile: one page, so that tiles begin on one.
pub(crate) const HEADER_BYTES: usize = 4096;
/// What a tile's residues take unless the writer asks for another packing.
pub const PACKING: Packing = Packing::Six;
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
    // Older formats lack it; they are refused by their number.
    #[serde(default)]
    residue_bytes: usize,
    roots: Vec<String>,
    // Place of a proof that every block is an honest encryption; none is made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

// What the first page of a plane says: little-endian words after the magic, zeros to its end.
#[derive(Clone, Copy)]
struct Header {
    packing: Packing,
    degree: usize,
    prime: u64,
    limb: usize,
    blocks: usize,
}

impl Header {
    fn page(&self) -> Vec<u8> {
        let mut page = MAGIC.to_vec();
        let words = [
            u64::from(FORMAT),
            self.packing.residue_bytes() as u64,
            self.degree as u64,
            self.prime,
            self.limb as u64,
            self.blocks as u64,
        ];
        page.extend(words.into_iter().flat_map(u64::to_le_bytes));
        page.resize(HEADER_BYTES, 0);
        page
    }

    fn leaf_bytes(&self) -> usize {
        self.blocks * self.packing.piece_words() * 8
    }

    fn file_bytes(&self) -> usize {
        HEADER_BYTES + 2 * (self.degree / TILE) * self.leaf_bytes()
    }
}

fn leaf(data: &[u8]) -> Hash {
    Sha256::new_with_prefix(LEAF_PREFIX)
        .chain_update(data)
        .finalize()
        .into()
}

/// A limb plane of a column.
pub(crate) struct Plane {
    path: PathBuf,
    // Place and value of the last byte that is not zero, or that begins the last page.
    tail: (usize, u8),
    // Before the mapping: fields are dropped in order.
    guard: Guard,
    map: Mmap,
    header: Header,
    /// The Merkle root the column was written with.
    pub root: Hash,
}

/// A stored column.
pub(crate) struct Column {
    pub name: String,
    pub limbs: usize,
    pub blocks: usize,
    pub residue_bytes: usize,
    pub planes: Vec<Plane>,
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
    packing: Packing,
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
    let words = blocks
        .iter()
        .map(|block| ring.parse("block", block, 2, limbs))
        .collect::<HeResult<Vec<_>>>()?;
    let words: Vec<&[u64]> = words.iter().map(|words| &**words).collect();
    fs::create_dir_all(directory).map_err(|error| io_error(directory, &error))?;
    let mut roots = Vec::with_capacity(limbs);
    for limb in 0..limbs {
        let header = Header {
            packing,
            degree: ring.degree,
            prime: ring.modulus(limb).value,
            limb,
            blocks: blocks.len(),
        };
        let mut leaves = Vec::new();
        write_file(&directory.join(format!("{column}.{limb}.tiles")), |file| {
            leaves = write_plane(file, &header, limbs, &words)?;
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
        residue_bytes: packing.residue_bytes(),
        roots,
        proof: None,
    };
    let text =
        serde_json::to_vec(&manifest).map_err(|error| HeError::Refused(error.to_string()))?;
    write_file(&directory.join(format!("{column}.json")), |file| {
        file.write_all(&text)
    })
}

// Writes header and tiles; returns their hashes.
fn write_plane(
    file: &mut impl Write,
    header: &Header,
    limbs: usize,
    blocks: &[&[u64]],
) -> std::io::Result<Vec<Hash>> {
    let page = header.page();
    file.write_all(&page)?;
    let mut leaves = vec![leaf(&page)];
    let tiles = header.degree / TILE;
    let mut words = Vec::new();
    for piece in 0..2 * tiles {
        let (polynomial, tile) = (piece / tiles, piece % tiles);
        let start = (polynomial * limbs + header.limb) * header.degree + tile * TILE;
        words.clear();
        for block in blocks {
            header.packing.pack(&block[start..start + TILE], &mut words);
        }
        let data = bytes_of(&words);
        leaves.push(leaf(&data));
        file.write_all(&data)?;
    }
    Ok(leaves)
}

impl Plane {
    fn open(path: PathBuf, header: Header, root: Hash) -> HeResult<Self> {
        let file = File::open(&path).map_err(|error| io_error(&path, &error))?;
        // SAFETY: the folder belongs to this process and its files are replaced by renaming, never
        // written in place; one that is cut short is noticed by the guard.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| io_error(&path, &error))?;
        if map.len() != header.file_bytes() {
            return corrupt(&path, &format!("is not {} bytes", header.file_bytes()));
        }
        let guard = Guard::new(&map)?;
        let last_page = map.len() - HEADER_BYTES;
        let back = map[last_page..].iter().rposition(|byte| *byte != 0);
        let place = last_page + back.unwrap_or(0);
        let plane = Self {
            path,
            tail: (place, map[place]),
            guard,
            map,
            header,
            root,
        };
        plane.verify()?;
        Ok(plane)
    }

    // Compares the bytes with the root they were written with.
    fn verify(&self) -> HeResult<()> {
        let (page, tiles) = self.map.split_at(HEADER_BYTES);
        let mut leaves = vec![leaf(page)];
        let window = READ_BYTES.next_multiple_of(self.header.leaf_bytes());
        let mut windows = tiles.chunks(window);
        windows.by_ref().take(1).for_each(ask);
        for tiles in tiles.chunks(window) {
            // The disk reads the next window while this one is hashed.
            windows.by_ref().take(1).for_each(ask);
            leaves.extend(tiles.chunks_exact(self.header.leaf_bytes()).map(leaf));
        }
        if root(&leaves) != self.root {
            return corrupt(
                &self.path,
                "does not have the Merkle root it was written with",
            );
        }
        if page != self.header.page() {
            return corrupt(&self.path, "is not the plane its manifest describes");
        }
        self.check_intact()
    }

    /// Refuses a file that shrank since it was opened.
    ///
    /// One read instead of a system call for each of hundreds of planes: behind the page it was cut
    /// in, a file no longer has pages, and reading one strikes the guard; within that page it reads
    /// as zeros.
    pub fn check_intact(&self) -> HeResult<()> {
        let (place, last) = self.tail;
        // SAFETY: `place` is below the mapping's length. The read is volatile because others may
        // change the file, which the compiler must not reason about.
        let found = unsafe { std::ptr::read_volatile(self.map.as_ptr().add(place)) };
        if self.guard.struck() || found != last {
            return corrupt(&self.path, "changed its length after it was opened");
        }
        Ok(())
    }

    /// The stored bytes of some pieces.
    pub fn pieces(&self, first: usize, count: usize) -> &[u8] {
        let size = self.header.packing.piece_words() * 8;
        &self.map[HEADER_BYTES + first * size..][..count * size]
    }

    /// All stored bytes.
    pub fn all(&self) -> &[u8] {
        &self.map
    }

    /// Drops the file from memory, as far as nobody else holds it there.
    pub fn evict(&self) -> HeResult<()> {
        let file = File::open(&self.path).map_err(|error| io_error(&self.path, &error))?;
        evict(&file, &self.map);
        Ok(())
    }

    /// The tiles, in place.
    pub fn source(&self) -> HeResult<Source<'_>> {
        match bytemuck::try_cast_slice(&self.map[HEADER_BYTES..]) {
            Ok(words) if cfg!(target_endian = "little") => {
                Ok(Source::new(words, self.header.packing))
            }
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
        if manifest.proof.is_some() {
            return corrupt(
                path,
                "carries a proof of encryption that this version cannot check",
            );
        }
        if manifest.blocks == 0 || manifest.blocks > BLOCKS_MAX {
            return corrupt(path, "has no valid block count");
        }
        if manifest.roots.len() != manifest.limbs {
            return corrupt(path, "does not name one root a limb");
        }
        let Some(packing) = Packing::of(manifest.residue_bytes) else {
            return corrupt(path, "has no valid residue size");
        };
        let planes = (0..manifest.limbs)
            .map(|limb| {
                let root = parse_hex(path, &manifest.roots[limb])?;
                let file = directory.join(format!("{}.{limb}.tiles", manifest.column));
                let header = Header {
                    packing,
                    degree: profile.ring.degree,
                    prime: profile.ring.modulus(limb).value,
                    limb,
                    blocks: manifest.blocks,
                };
                Plane::open(file, header, root)
            })
            .collect::<HeResult<Vec<_>>>()?;
        Ok(Self {
            name: manifest.column,
            limbs: manifest.limbs,
            blocks: manifest.blocks,
            residue_bytes: manifest.residue_bytes,
            planes,
        })
    }

    /// Compares every plane with its root.
    pub fn verify(&self) -> HeResult<()> {
        self.planes.iter().try_for_each(Plane::verify)
    }
}
