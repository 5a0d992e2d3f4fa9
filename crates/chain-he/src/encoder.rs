//! Slots to polynomials modulo t and back (Smart and Vercauteren batching, SEAL's slot order).

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::error::{refuse, HeResult};
use crate::params::Profile;

/// Little-endian words of a byte string.
pub fn words_of(bytes: &[u8]) -> HeResult<Vec<u64>> {
    if !bytes.len().is_multiple_of(8) {
        return refuse(format!("{} bytes are not whole 64-bit words", bytes.len()));
    }
    Ok(bytes
        .chunks_exact(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap_or([0; 8])))
        .collect())
}

/// Little-endian bytes of words, without a copy where the machine allows it.
pub fn bytes_of(words: &[u64]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(words));
    }
    Cow::Owned(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Coefficients in (-t/2, t/2] of the polynomial with these slots; missing slots are zero.
pub fn encode(profile: &Profile, slots: &[u8]) -> HeResult<Zeroizing<Vec<i64>>> {
    let values = Zeroizing::new(words_of(slots)?);
    let degree = profile.ring.degree;
    if values.len() > degree {
        return refuse(format!(
            "{} slots given, a block holds {degree}",
            values.len()
        ));
    }
    let t = profile.t();
    if let Some(place) = values.iter().position(|v| *v >= t) {
        return refuse(format!("slot {place} is not below the plain modulus {t}"));
    }
    let mut coefficients = Zeroizing::new(vec![0u64; degree]);
    for (value, place) in values.iter().zip(&profile.slot_index) {
        coefficients[*place as usize] = *value;
    }
    profile.plain.inverse(&mut coefficients);
    let half = t / 2;
    Ok(Zeroizing::new(
        coefficients
            .iter()
            .map(|c| *c as i64 - (t & ((half.wrapping_sub(*c) as i64 >> 63) as u64)) as i64)
            .collect(),
    ))
}

/// Slots of a polynomial given by canonical coefficients modulo t.
pub fn decode(profile: &Profile, mut coefficients: Zeroizing<Vec<u64>>) -> Zeroizing<Vec<u64>> {
    profile.plain.forward(&mut coefficients);
    Zeroizing::new(
        profile
            .slot_index
            .iter()
            .map(|place| coefficients[*place as usize])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::profile;

    #[test]
    fn slots_round_trip_and_bounds_are_kept() {
        for name in ["S", "S36", "M"] {
            let profile = profile(name).unwrap();
            let t = profile.t();
            let degree = profile.ring.degree;
            let values: Vec<u64> = (0..degree as u64).map(|i| i * i * 977 % t).collect();
            let signed = encode(profile, &bytes_of(&values)).unwrap();
            assert!(signed.iter().all(|c| c.unsigned_abs() <= t / 2));
            let canonical = signed
                .iter()
                .map(|c| profile.plain.modulus.from_small_signed(*c))
                .collect();
            assert_eq!(*decode(profile, Zeroizing::new(canonical)), values);
            assert!(encode(profile, &bytes_of(&[t])).is_err());
            assert!(encode(profile, &[1, 2, 3]).is_err());
            assert!(encode(profile, &vec![0; 8 * (degree + 1)]).is_err());
        }
    }
}
