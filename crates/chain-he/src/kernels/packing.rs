//! How the residues of a tile lie in its file: eight bytes each, or six.
//!
//! Six bytes: 64 residues below 2^48 fill six lines of eight words. Word l of line j holds residue
//! 8 j + l in its low 48 bits; the high 16 bits of lines 0, 1 and 2 are residue 48 + l, those of
//! lines 3, 4 and 5 residue 56 + l, lowest part first. So lines are read whole and aligned, and
//! masks and shifts unpack them on every processor.

use super::TILE;

pub(super) const LINE: usize = 8;
pub(super) const LINES: usize = 6;
/// Bits of a packed residue.
pub const PACKED_BITS: u32 = 48;
pub(super) const LOW: u64 = (1 << PACKED_BITS) - 1;
// Lines whose high parts make one residue.
pub(super) const PARTS: usize = 3;

/// Bytes of a stored residue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// Plain words.
    Eight,
    /// 48 bits.
    Six,
}

impl Packing {
    /// The packing of so many bytes a residue.
    pub const fn of(residue_bytes: usize) -> Option<Self> {
        match residue_bytes {
            8 => Some(Self::Eight),
            6 => Some(Self::Six),
            _ => None,
        }
    }

    /// Bytes of a residue.
    pub const fn residue_bytes(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Six => 6,
        }
    }

    /// Words of a piece of 64 residues.
    pub const fn piece_words(self) -> usize {
        TILE * self.residue_bytes() / 8
    }

    /// Writes 64 residues as they are stored; packed ones must be below 2^48.
    pub fn pack(self, residues: &[u64], out: &mut Vec<u64>) {
        assert_eq!(residues.len(), TILE);
        if self == Self::Eight {
            return out.extend_from_slice(residues);
        }
        assert!(residues.iter().all(|x| *x <= LOW));
        for line in 0..LINES {
            for lane in 0..LINE {
                let spread = residues[(LINES + line / PARTS) * LINE + lane];
                let part = spread >> (16 * (line % PARTS)) & 0xffff;
                out.push(residues[line * LINE + lane] | part << PACKED_BITS);
            }
        }
    }
}

/// One limb plane of a column, as pieces of 64 residues.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    words: &'a [u64],
    packing: Packing,
}

impl<'a> Source<'a> {
    /// Pieces that follow one another.
    pub fn new(words: &'a [u64], packing: Packing) -> Self {
        Self { words, packing }
    }

    /// The stored words.
    pub fn words(&self) -> &'a [u64] {
        self.words
    }

    /// Words of a piece.
    #[inline]
    pub(super) fn piece_words(&self) -> usize {
        self.packing.piece_words()
    }

    /// The words of `count` pieces.
    pub(super) fn run(&self, first: usize, count: usize) -> &'a [u64] {
        let words = self.packing.piece_words();
        &self.words[first * words..][..count * words]
    }

    /// The words of a piece.
    #[inline]
    pub(super) fn piece(&self, index: usize) -> &'a [u64] {
        let words = self.packing.piece_words();
        &self.words[index * words..][..words]
    }

    /// Where a piece begins, which may lie behind the end.
    #[inline]
    pub(super) fn address(&self, index: usize) -> *const u64 {
        let words = self.packing.piece_words();
        self.words.as_ptr().wrapping_add(index * words)
    }

    /// The residues of a piece.
    pub(super) fn unpack(&self, index: usize) -> [u64; TILE] {
        let words = self.piece(index);
        let mut out = [0; TILE];
        if self.packing == Packing::Eight {
            out.copy_from_slice(words);
            return out;
        }
        for (x, word) in out.iter_mut().zip(words) {
            *x = word & LOW;
        }
        for (at, word) in words.iter().enumerate() {
            let (line, lane) = (at / LINE, at % LINE);
            let part = word >> PACKED_BITS << (16 * (line % PARTS));
            out[(LINES + line / PARTS) * LINE + lane] |= part;
        }
        out
    }
}
