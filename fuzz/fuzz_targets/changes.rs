//! Changes of right bytes that targets of fixed shapes share.

use arbitrary::Arbitrary;
use chain_he::params::Profile;

const SIZE_MAX_BYTES: usize = 1 << 21;
const CHANGES_MAX: usize = 8;

/// One change of right bytes.
#[derive(Arbitrary, Debug)]
pub enum Change {
    Cut(u32),
    Append(Vec<u8>),
    Word(u32, u64),
    Flip(u32, u8),
    Prime(u32, i8),
    Repeat(u8),
}

/// The bytes after some changes; `Prime` writes about a prime of `limbs` ones.
pub fn changed(profile: &Profile, limbs: usize, data: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut out = data.to_vec();
    for change in changes.iter().take(CHANGES_MAX) {
        let length = out.len().max(1);
        match change {
            Change::Cut(size) => out.truncate(*size as usize % (length + 1)),
            Change::Append(more) => out.extend_from_slice(&more[..more.len().min(64)]),
            Change::Word(at, value) => write(&mut out, *at, *value),
            Change::Flip(at, bits) => {
                if let Some(byte) = out.get_mut(*at as usize % length) {
                    *byte ^= bits;
                }
            }
            Change::Prime(at, offset) => {
                let modulus = profile.ring.modulus(*at as usize % limbs).value;
                write(
                    &mut out,
                    *at,
                    modulus.wrapping_add_signed(i64::from(*offset)),
                );
            }
            Change::Repeat(times) if out.len() < SIZE_MAX_BYTES => {
                out = out.repeat(1 + usize::from(times % 4));
            }
            Change::Repeat(_) => {}
        }
    }
    out
}

fn write(out: &mut [u8], at: u32, value: u64) {
    let words = out.len() / 8;
    if words > 0 {
        let start = at as usize % words * 8;
        out[start..start + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Whether bytes are that many polynomials of `limbs` limbs, every residue below its prime.
pub fn in_range(profile: &Profile, data: &[u8], polynomials: usize, limbs: usize) -> bool {
    let row = profile.ring.degree * 8;
    data.len() == polynomials * limbs * row
        && data.chunks_exact(row).enumerate().all(|(index, row)| {
            let prime = profile.ring.modulus(index % limbs).value;
            let words = row.chunks_exact(8);
            words
                .map(|w| u64::from_le_bytes(w.try_into().expect("eight")))
                .all(|w| w < prime)
        })
}
