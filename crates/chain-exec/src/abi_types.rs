//! The value types of an ABI: where a value lies in argument bytes, and its form as a storage key.
//!
//! The codec is that of `chainnode/contract/codec.py` (docs/reference/contract-language.md). Only
//! what access templates need is here; every doubt is `None`.

use std::collections::HashMap;

/// Values that one walk over arguments may pass: lists of empty records would take for ever.
const STEPS_MAX: usize = 10_000;
/// Types inside types that one name may have.
const NESTING_MAX: usize = 32;

/// A value type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer {
        size_bytes: usize,
        signed: bool,
    },
    Bool,
    None,
    Fixed32,
    /// `bytes` and `str`: a length and that many bytes.
    Counted,
    List(Box<Kind>),
    Optional(Box<Kind>),
    Tuple(Vec<Kind>),
    /// A record of the ABI by number.
    Record(usize),
}

/// One argument: its type and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    kind: &'a Kind,
    start: usize,
}

/// The records of one ABI.
#[derive(Clone, Debug, Default)]
pub(crate) struct Types {
    names: HashMap<String, usize>,
    records: Vec<Vec<Kind>>,
}

impl Types {
    /// Add a record; its fields may name only those added before, so none contains itself.
    pub(crate) fn define<'a>(
        &mut self,
        name: &str,
        fields: impl Iterator<Item = &'a str>,
    ) -> Option<()> {
        let fields = fields.map(|kind| self.parse(kind)).collect::<Option<_>>()?;
        self.names.insert(name.to_owned(), self.records.len());
        self.records.push(fields);
        Some(())
    }

    /// The type a text names.
    pub(crate) fn parse(&self, text: &str) -> Option<Kind> {
        let (kind, rest) = self.parse_part(text, NESTING_MAX)?;
        rest.is_empty().then_some(kind)
    }

    fn parse_part<'t>(&self, text: &'t str, nesting: usize) -> Option<(Kind, &'t str)> {
        let end = text.find(['[', ']', ',']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        if !rest.starts_with('[') {
            let kind = scalar(name).or_else(|| self.names.get(name).map(|&n| Kind::Record(n)))?;
            return Some((kind, rest));
        }
        let nesting = nesting.checked_sub(1)?;
        let mut items = Vec::new();
        while let Some(next) = rest.strip_prefix(['[', ',']) {
            let (item, after) = self.parse_part(next, nesting)?;
            items.push(item);
            rest = after;
        }
        let rest = rest.strip_prefix(']')?;
        let kind = match name {
            "tuple" => Kind::Tuple(items),
            "list" if items.len() == 1 => Kind::List(Box::new(items.pop()?)),
            "optional" if items.len() == 1 => Kind::Optional(Box::new(items.pop()?)),
            _ => return None,
        };
        Some((kind, rest))
    }

    /// Where each argument begins; `None` unless they fill the bytes exactly.
    pub(crate) fn places<'k>(&self, kinds: &'k [Kind], args: &[u8]) -> Option<Vec<Place<'k>>> {
        let mut steps = STEPS_MAX;
        let mut start = 0;
        let mut places = Vec::with_capacity(kinds.len());
        for kind in kinds {
            places.push(Place { kind, start });
            start = self.end(kind, args, start, &mut steps)?;
        }
        (start == args.len()).then_some(places)
    }

    fn parts<'k>(&'k self, kind: &'k Kind) -> &'k [Kind] {
        match kind {
            Kind::Tuple(items) => items,
            Kind::Record(number) => &self.records[*number],
            _ => &[],
        }
    }

    /// Where a value that begins at `start` ends.
    fn end(&self, kind: &Kind, args: &[u8], start: usize, steps: &mut usize) -> Option<usize> {
        *steps = steps.checked_sub(1)?;
        let end = match kind {
            Kind::Integer { size_bytes, .. } => start + size_bytes,
            Kind::Bool => start + 1,
            Kind::None => start,
            Kind::Fixed32 => start + 32,
            Kind::Counted => start + 4 + length(args, start)?,
            Kind::List(item) => {
                let mut at = start + 4;
                for _ in 0..length(args, start)? {
                    at = self.end(item, args, at, steps)?;
                }
                at
            }
            Kind::Optional(item) => match args.get(start)? {
                0 => start + 1,
                _ => self.end(item, args, start + 1, steps)?,
            },
            Kind::Tuple(_) | Kind::Record(_) => {
                let mut at = start;
                for part in self.parts(kind) {
                    at = self.end(part, args, at, steps)?;
                }
                at
            }
        };
        (end <= args.len()).then_some(end)
    }

    /// The part of an argument at a path of field numbers: its type and its bytes.
    pub(crate) fn walk<'k, 'a>(
        &'k self,
        place: &Place<'k>,
        path: &[usize],
        args: &'a [u8],
    ) -> Option<(&'k Kind, &'a [u8])> {
        let mut steps = STEPS_MAX;
        let (mut kind, mut start) = (place.kind, place.start);
        for &index in path {
            let parts = self.parts(kind);
            for part in parts.get(..index)? {
                start = self.end(part, args, start, &mut steps)?;
            }
            kind = parts.get(index)?;
        }
        let end = self.end(kind, args, start, &mut steps)?;
        Some((kind, args.get(start..end)?))
    }
}

fn scalar(name: &str) -> Option<Kind> {
    let integer = |size_bytes, signed| Kind::Integer { size_bytes, signed };
    Some(match name {
        "u8" => integer(1, false),
        "u16" => integer(2, false),
        "u32" => integer(4, false),
        "u64" => integer(8, false),
        "u128" => integer(16, false),
        "i64" => integer(8, true),
        "int" => integer(16, true),
        "bool" => Kind::Bool,
        "none" => Kind::None,
        "address" | "bytes32" => Kind::Fixed32,
        "bytes" | "str" => Kind::Counted,
        _ => return None,
    })
}

fn length(args: &[u8], start: usize) -> Option<usize> {
    let bytes = args.get(start..start.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

impl Kind {
    /// Append an integer as a key of this type.
    pub(crate) fn key_of_integer(&self, value: i128, key: &mut Vec<u8>) -> Option<()> {
        let Kind::Integer { size_bytes, signed } = self else {
            return None;
        };
        let bits = u32::try_from(8 * size_bytes).ok()?;
        let lowest = if *signed {
            i128::MIN >> (128 - bits)
        } else {
            0
        };
        let highest = if *signed {
            i128::MAX >> (128 - bits)
        } else {
            i128::try_from(u128::MAX >> (128 - bits)).unwrap_or(i128::MAX)
        };
        if !(lowest..=highest).contains(&value) {
            return None;
        }
        // Keys keep the order of their values, so the sign bit is turned.
        let shifted = value.wrapping_sub(lowest).to_be_bytes();
        key.extend_from_slice(&shifted[16 - size_bytes..]);
        Some(())
    }

    /// Append bytes or text as a key of this type.
    pub(crate) fn key_of_bytes(&self, value: &[u8], key: &mut Vec<u8>) -> Option<()> {
        match self {
            Kind::Fixed32 if value.len() == 32 => key.extend_from_slice(value),
            Kind::Counted => {
                for &byte in value {
                    key.push(byte);
                    if byte == 0 {
                        key.push(0xff);
                    }
                }
                key.extend_from_slice(&[0, 0]);
            }
            _ => return None,
        }
        Some(())
    }

    /// Append an argument's bytes, which have the type `found`, as a key of this type.
    pub(crate) fn key_of_argument(
        &self,
        found: &Kind,
        bytes: &[u8],
        key: &mut Vec<u8>,
    ) -> Option<()> {
        match found {
            Kind::Integer { size_bytes, signed } => {
                let negative = *signed && bytes.first()? & 0x80 != 0;
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide[16 - size_bytes..].copy_from_slice(bytes);
                self.key_of_integer(i128::from_be_bytes(wide), key)
            }
            Kind::Bool if *self == Kind::Bool => {
                key.extend_from_slice(bytes);
                Some(())
            }
            Kind::Fixed32 => self.key_of_bytes(bytes, key),
            Kind::Counted => self.key_of_bytes(bytes.get(4..)?, key),
            _ => None,
        }
    }
}
