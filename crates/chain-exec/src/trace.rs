//! What a block's transactions cost and touch: recorded from a serial run, or made up.
//!
//! The text form, its rules and its versions: docs/spec/execution-trace.md.

use std::collections::{BTreeMap, HashMap};

use crate::scheduler::{Hint, HintClass, HintKey};

/// First word of a trace as text; its version follows.
const TRACE_NAME: &str = "chainnode-trace";
/// The version that is written, and the only one that is read.
pub const TRACE_VERSION: u64 = 2;
/// Most transactions of a trace.
pub const TRANSACTIONS_MAX: usize = 1_000_000;
/// Longest execution or signature check: an hour, so that sums stay within 64 bits.
pub const COST_MAX_NS: u64 = 3_600_000_000_000;

/// A scan of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// First key.
    pub start: u64,
    /// Above the last key.
    pub end: u64,
    /// Offset into the execution in nanoseconds.
    pub at_ns: u64,
}

/// One transaction of a trace. Keys are numbers; contract-qualified means a number per pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceTransaction {
    /// Serial execution time in nanoseconds.
    pub cost_ns: u64,
    /// Gas of the receipt.
    pub gas_used: u64,
    /// Signature check in nanoseconds, done once however often it executes.
    pub verify_ns: u64,
    /// Key and offset into the execution in nanoseconds, by offset.
    pub reads: Vec<(u64, u64)>,
    /// Keys put or deleted at the end of the execution.
    pub writes: Vec<u64>,
    /// Counters added to without being read.
    pub deltas: Vec<u64>,
    /// Ranges scanned, by offset.
    pub ranges: Vec<Scan>,
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

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(read).collect()
}

fn numbers(text: &str) -> Result<Vec<u64>, String> {
    list(text, number)
}

fn number(text: &str) -> Result<u64, String> {
    // A sign would be a second way to write the same number.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let read = plain.then(|| text.parse().ok()).flatten();
    read.ok_or_else(|| format!("`{}` is no 64-bit number", shown(text)))
}

fn pair(text: &str, separator: char) -> Result<(&str, &str), String> {
    text.split_once(separator)
        .ok_or_else(|| format!("`{}` has no `{separator}`", shown(text)))
}

fn read(text: &str) -> Result<(u64, u64), String> {
    let (key, at) = pair(text, '@')?;
    Ok((number(key)?, number(at)?))
}

fn scan(text: &str) -> Result<Scan, String> {
    let (range, at) = pair(text, '@')?;
    let (start, end) = pair(range, '-')?;
    Ok(Scan {
        start: number(start)?,
        end: number(end)?,
        at_ns: number(at)?,
    })
}

/// The beginning of what is wrong: a line may have megabytes.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn check_header(line: &str) -> Result<(), String> {
    let expected = || format!("the first line is `{TRACE_NAME} {TRACE_VERSION}`");
    let version = line
        .strip_prefix(TRACE_NAME)
        .and_then(|rest| rest.strip_prefix(' '));
    match version.map(number) {
        Some(Ok(TRACE_VERSION)) => Ok(()),
        Some(Ok(version)) => Err(format!(
            "version {version} is not known, this program reads version {TRACE_VERSION}"
        )),
        _ => Err(expected()),
    }
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
        let ranges = |scan: &Scan| format!("{}-{}@{}", scan.start, scan.end, scan.at_ns);
        let mut fields = vec![
            ("c", self.cost_ns.to_string()),
            ("u", zero(self.gas_used)),
            ("v", zero(self.verify_ns)),
            ("r", joined(&self.reads, |(key, at)| format!("{key}@{at}"))),
            ("w", joined(&self.writes, plain)),
            ("d", joined(&self.deltas, plain)),
            ("g", joined(&self.ranges, ranges)),
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
        let mut names = Vec::new();
        for field in line.split(' ') {
            let (name, value) = pair(field, '=')?;
            if names.contains(&name) {
                return Err(format!("the field `{}` comes twice", shown(name)));
            }
            names.push(name);
            transaction.set(name, value)?;
        }
        if !names.contains(&"c") {
            return Err("a transaction has a cost, `c=`".to_owned());
        }
        transaction.check()?;
        Ok(transaction)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let hints = &mut self.hint_keys;
        match name {
            "c" => self.cost_ns = number(value)?,
            "u" => self.gas_used = number(value)?,
            "v" => self.verify_ns = number(value)?,
            "r" => self.reads = list(value, read)?,
            "w" => self.writes = numbers(value)?,
            "d" => self.deltas = numbers(value)?,
            "g" => self.ranges = list(value, scan)?,
            "h" => {
                self.hint_class = match value {
                    "complete" => HintClass::Complete,
                    "superset" => HintClass::Superset,
                    "predicted" => HintClass::Predicted,
                    _ => return Err(format!("`{}` is no class of hints", shown(value))),
                }
            }
            "hr" => hints.get_or_insert_default()[0] = numbers(value)?,
            "hw" => hints.get_or_insert_default()[1] = numbers(value)?,
            "hd" => hints.get_or_insert_default()[2] = numbers(value)?,
            "hk" if value == "1" => drop(hints.get_or_insert_default()),
            "hk" => return Err("`hk` can only be 1".to_owned()),
            _ => return Err(format!("no field is called `{}`", shown(name))),
        }
        Ok(())
    }

    /// Whether the fields fit each other.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.cost_ns.max(self.verify_ns) > COST_MAX_NS {
            return Err(format!("`c` and `v` are at most {COST_MAX_NS} ns"));
        }
        let scans = self.ranges.iter().map(|scan| scan.at_ns);
        let reads = self.reads.iter().map(|(_, at_ns)| *at_ns);
        if !scans.clone().is_sorted() || !reads.clone().is_sorted() {
            return Err("reads and ranges come in the order of their offsets".to_owned());
        }
        if scans.chain(reads).any(|at_ns| at_ns > self.cost_ns) {
            return Err("an offset lies within the execution, at most `c`".to_owned());
        }
        if self.ranges.iter().any(|scan| scan.start > scan.end) {
            return Err("a range ends before it starts".to_owned());
        }
        if self.hint_class == HintClass::None && self.hint_keys.is_some() {
            return Err("`hr`, `hw`, `hd` and `hk` need a class, `h=`".to_owned());
        }
        Ok(())
    }
}

impl Trace {
    /// The trace as text.
    pub fn encode(&self) -> String {
        let mut text = format!("{TRACE_NAME} {TRACE_VERSION}\n");
        for transaction in &self.transactions {
            text += &transaction.encode();
            text.push('\n');
        }
        text
    }

    /// A trace from text.
    ///
    /// # Errors
    /// The first line that breaks a rule, and the rule.
    pub fn decode(text: &str) -> Result<Self, TraceError> {
        let wrong = |(line, reason)| TraceError { line, reason };
        let mut lines = text.split_terminator('\n').zip(1..);
        check_header(lines.next().map_or("", |(line, _)| line))
            .map_err(|reason| wrong((1, reason)))?;
        let mut transactions = Vec::new();
        for (text, line) in lines.filter(|(text, _)| !text.starts_with('#')) {
            if transactions.len() == TRANSACTIONS_MAX {
                let reason = format!("a trace has at most {TRANSACTIONS_MAX} transactions");
                return Err(wrong((line, reason)));
            }
            let read = TraceTransaction::decode(text).map_err(|reason| wrong((line, reason)));
            transactions.push(read?);
        }
        Ok(Self { transactions })
    }

    /// The same trace with a signature check of so long before each transaction.
    pub fn with_verify(&self, verify_ns: u64) -> Self {
        let mut trace = self.clone();
        for one in &mut trace.transactions {
            one.verify_ns = verify_ns.min(COST_MAX_NS);
        }
        trace
    }

    /// Gas of all receipts.
    pub fn gas_used(&self) -> u64 {
        let gas = self.transactions.iter().map(|one| one.gas_used);
        gas.fold(0, u64::saturating_add)
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
            let ranges = one
                .ranges
                .iter()
                .map(|scan| paths.of_range((scan.start, scan.end)));
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
