//! What a block's transactions cost and touch: recorded from a serial run, or made up.
//!
//! As text, a first line `chainnode-trace 1`, then one line a transaction of space-separated
//! fields, those without a value left out: `c=` cost in nanoseconds, `v=` signature check in
//! nanoseconds, `r=` reads as `key@offset_ns`, `w=` writes, `d=` deltas, `g=` ranges as
//! `start-end` (end exclusive), `h=` the hint's class (`complete`, `superset`, `predicted`), and
//! `hr=`, `hw=`, `hd=` the hint's keys where they differ from the accesses. Lists are separated by
//! commas, keys are numbers.

use std::collections::{BTreeMap, HashMap};

use crate::scheduler::{Hint, HintClass, HintKey};

/// First line of a trace as text.
pub const TRACE_HEADER: &str = "chainnode-trace 1";

/// One transaction of a trace. Keys are numbers; contract-qualified means a number per pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceTransaction {
    /// Serial execution time in nanoseconds.
    pub cost_ns: u64,
    /// Signature check in nanoseconds, done once however often it executes.
    pub verify_ns: u64,
    /// Key and offset into the execution in nanoseconds, by offset.
    pub reads: Vec<(u64, u64)>,
    /// Keys put or deleted at the end of the execution.
    pub writes: Vec<u64>,
    /// Counters added to without being read.
    pub deltas: Vec<u64>,
    /// Ranges scanned at the start: start (inclusive) and end (exclusive).
    pub ranges: Vec<(u64, u64)>,
    /// What is known before: `None` is exactly the accesses, of this class.
    pub hint_class: HintClass,
    /// Reads, writes and deltas the hint names instead, right or wrong.
    pub hint_keys: Option<[Vec<u64>; 3]>,
}

/// A block's transactions in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In block order.
    pub transactions: Vec<TraceTransaction>,
}

/// A line of a trace that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trace line {line}: {reason}")]
pub struct TraceError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

pub(crate) fn key_bytes(key: u64) -> [u8; 9] {
    let mut bytes = [chain_state::keys::STORAGE_TAG; 9];
    bytes[1..].copy_from_slice(&key.to_be_bytes());
    bytes
}

fn numbers(text: &str) -> Result<Vec<u64>, String> {
    text.split(',').map(number).collect()
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn pairs(text: &str, separator: char) -> Result<Vec<(u64, u64)>, String> {
    let pair = |text: &str| {
        let (left, right) = text
            .split_once(separator)
            .ok_or_else(|| format!("`{text}` is no pair"))?;
        Ok((number(left)?, number(right)?))
    };
    text.split(',').map(pair).collect()
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(",")
}

impl TraceTransaction {
    /// The hint a scheduler gets.
    pub fn hint(&self) -> Hint {
        if self.hint_class == HintClass::None {
            return Hint::default();
        }
        let keys = |keys: &[u64]| {
            keys.iter()
                .map(|key| HintKey::new(key_bytes(*key)))
                .collect()
        };
        let read: Vec<u64> = self.reads.iter().map(|(key, _)| *key).collect();
        let [reads, writes, deltas] = match &self.hint_keys {
            Some([reads, writes, deltas]) => [reads, writes, deltas],
            None => [&read, &self.writes, &self.deltas],
        };
        Hint {
            class: self.hint_class,
            reads: keys(reads),
            writes: keys(writes),
            deltas: keys(deltas),
        }
    }

    fn encode(&self) -> String {
        let plain = |key: &u64| key.to_string();
        let class = match self.hint_class {
            HintClass::Complete => "complete",
            HintClass::Superset => "superset",
            HintClass::Predicted => "predicted",
            HintClass::None => "",
        };
        let zero = |value: u64| {
            if value == 0 {
                String::new()
            } else {
                value.to_string()
            }
        };
        let mut fields = vec![
            ("c", self.cost_ns.to_string()),
            ("v", zero(self.verify_ns)),
            ("r", joined(&self.reads, |(key, at)| format!("{key}@{at}"))),
            ("w", joined(&self.writes, plain)),
            ("d", joined(&self.deltas, plain)),
            (
                "g",
                joined(&self.ranges, |(start, end)| format!("{start}-{end}")),
            ),
            ("h", class.to_owned()),
        ];
        if let Some(hints) = &self.hint_keys {
            let names = ["hr", "hw", "hd"];
            fields.extend(
                names
                    .into_iter()
                    .zip(hints.iter().map(|keys| joined(keys, plain))),
            );
            // Tells a hint of nothing from one of the accesses.
            fields.push(("hk", "1".to_owned()));
        }
        let shown = fields.iter().filter(|(_, value)| !value.is_empty());
        let shown: Vec<String> = shown
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        shown.join(" ")
    }

    fn decode(line: &str) -> Result<Self, String> {
        let mut transaction = Self::default();
        for field in line.split_whitespace() {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| format!("`{field}` is no field"))?;
            let hints = &mut transaction.hint_keys;
            match name {
                "c" => transaction.cost_ns = number(value)?,
                "v" => transaction.verify_ns = number(value)?,
                "r" => transaction.reads = pairs(value, '@')?,
                "w" => transaction.writes = numbers(value)?,
                "d" => transaction.deltas = numbers(value)?,
                "g" => transaction.ranges = pairs(value, '-')?,
                "h" => {
                    transaction.hint_class = match value {
                        "complete" => HintClass::Complete,
                        "superset" => HintClass::Superset,
                        "predicted" => HintClass::Predicted,
                        _ => return Err(format!("`{value}` is no class of hints")),
                    }
                }
                "hr" => hints.get_or_insert_default()[0] = numbers(value)?,
                "hw" => hints.get_or_insert_default()[1] = numbers(value)?,
                "hd" => hints.get_or_insert_default()[2] = numbers(value)?,
                "hk" => drop(hints.get_or_insert_default()),
                _ => return Err(format!("no field is called `{name}`")),
            }
        }
        Ok(transaction)
    }
}

impl Trace {
    /// The trace as text.
    pub fn encode(&self) -> String {
        let mut text = TRACE_HEADER.to_owned() + "\n";
        for transaction in &self.transactions {
            text += &transaction.encode();
            text.push('\n');
        }
        text
    }

    /// A trace from text.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn decode(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line) != Some(TRACE_HEADER) {
            let reason = format!("must be `{TRACE_HEADER}`");
            return Err(TraceError { line: 1, reason });
        }
        let transactions = lines.map(|(text, line)| {
            TraceTransaction::decode(text).map_err(|reason| TraceError { line, reason })
        });
        Ok(Self {
            transactions: transactions.collect::<Result<_, _>>()?,
        })
    }

    /// T1: the serial execution time in nanoseconds.
    pub fn work_ns(&self) -> u64 {
        self.transactions.iter().map(|one| one.cost_ns).sum()
    }

    /// T-infinity: the longest cost-weighted read-after-write path in block order, in nanoseconds.
    ///
    /// A delta waits for nobody; whoever reads a counter waits for every delta to it.
    pub fn critical_path_ns(&self) -> u64 {
        let mut paths = Paths::default();
        let mut longest = 0;
        for one in &self.transactions {
            let reads = one.reads.iter().map(|(key, _)| paths.of(*key));
            let start = reads.max().unwrap_or(0);
            let ranges = one.ranges.iter().map(|range| paths.of_range(*range));
            let end = start.max(ranges.max().unwrap_or(0)) + one.cost_ns;
            longest = longest.max(end);
            for key in &one.writes {
                paths.set(*key, end);
            }
            for key in &one.deltas {
                paths.set(*key, end.max(paths.of(*key)));
            }
        }
        longest
    }

    /// The same trace with every delta as a read and a write: what exact keys would cost.
    pub fn without_deltas(&self) -> Self {
        let mut trace = self.clone();
        for one in &mut trace.transactions {
            let deltas = std::mem::take(&mut one.deltas);
            one.reads.extend(deltas.iter().map(|key| (*key, 0)));
            one.writes.extend(deltas);
            if let Some([reads, writes, deltas]) = &mut one.hint_keys {
                reads.extend_from_slice(deltas);
                writes.append(deltas);
            }
        }
        trace
    }

    /// The same trace with nothing known beforehand.
    pub fn without_hints(&self) -> Self {
        let mut trace = self.clone();
        for one in &mut trace.transactions {
            one.hint_class = HintClass::None;
            one.hint_keys = None;
        }
        trace
    }
}

/// When each key's last writers end; ordered only where a range asks.
#[derive(Default)]
struct Paths {
    ends: HashMap<u64, u64>,
    ordered: Option<BTreeMap<u64, u64>>,
}

impl Paths {
    fn of(&self, key: u64) -> u64 {
        self.ends.get(&key).copied().unwrap_or(0)
    }

    fn of_range(&mut self, (start, end): (u64, u64)) -> u64 {
        let ordered = self.ordered.get_or_insert_with(|| {
            let ends = self.ends.iter();
            ends.map(|(key, end)| (*key, *end)).collect()
        });
        let inside = ordered.range(start..end.max(start));
        inside.map(|(_, end)| *end).max().unwrap_or(0)
    }

    fn set(&mut self, key: u64, end: u64) {
        self.ends.insert(key, end);
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(key, end);
        }
    }
}
