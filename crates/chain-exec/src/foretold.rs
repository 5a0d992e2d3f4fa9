//! What is known of a run's transactions before they run.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use chain_state::{StateGuard, TxView};
use chain_types::CheckedTransaction;

use crate::block::{Item, Rules};
use crate::hints::{CallContext, Templates};
use crate::members::{find, role_name};
use crate::observed::{Call, Observed};
use crate::scheduler::{Hint, HintClass, HintKey};
use crate::survey::Outline;

/// The templates of each contract that a run calls.
pub(crate) type Called<'a> = HashMap<&'a str, Option<Arc<Templates>>>;

/// Hints of a run in block order, in the pieces that workers made.
#[derive(Debug, Default)]
pub(crate) struct Hints(Vec<Piece>);

/// Hints of neighbours.
#[derive(Debug)]
pub(crate) struct Piece {
    start: usize,
    hints: Vec<Hint>,
    /// Of those that the gate looks at.
    outline: Option<Outline>,
}

impl Piece {
    /// The hints of the transactions from a position on.
    pub(crate) fn new(start: usize, hints: Vec<Hint>) -> Self {
        Self {
            start,
            hints,
            outline: None,
        }
    }

    /// The same for the gate to look at.
    pub(crate) fn outlined(self) -> Self {
        Self {
            outline: Some(Outline::of(&self.hints)),
            ..self
        }
    }
}

impl Hints {
    /// These and those of other positions.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.0.sort_unstable_by_key(|piece| piece.start);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Hint> + Clone {
        self.0.iter().flat_map(|piece| &piece.hints)
    }

    /// The outlines of those that the gate looks at.
    pub(crate) fn outlines(&self) -> impl Iterator<Item = &Outline> + Clone {
        self.0.iter().filter_map(|piece| piece.outline.as_ref())
    }

    /// Their pieces in so many groups, for workers who have others to do as well.
    pub(crate) fn into_groups(self, count: usize) -> Vec<Vec<Piece>> {
        let count = count.max(1);
        let mut groups: Vec<Vec<Piece>> = (0..count).map(|_| Vec::new()).collect();
        for (index, piece) in self.0.into_iter().enumerate() {
            groups[index % count].push(piece);
        }
        groups
    }
}

impl FromIterator<Piece> for Hints {
    fn from_iter<I: IntoIterator<Item = Piece>>(pieces: I) -> Self {
        Self(pieces.into_iter().collect())
    }
}

impl From<Vec<Hint>> for Hints {
    fn from(hints: Vec<Hint>) -> Self {
        Self(vec![Piece::new(0, hints)])
    }
}

/// Ranges in pieces of at least so many, about as many as there are workers; none goes beyond its
/// range.
pub(crate) fn cut(ranges: &[Range<usize>], workers: usize, least: usize) -> Vec<Range<usize>> {
    let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    let size = count.div_ceil(workers).max(least).max(1);
    let pieces = ranges.iter().flat_map(|range| {
        let starts = range.clone().step_by(size);
        starts.map(move |start| start..(start + size).min(range.end))
    });
    pieces.collect()
}

/// The positions below a count that lie in none of these ranges.
pub(crate) fn between(ranges: &[Range<usize>], count: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|range| range.end));
    let ends = ranges.iter().map(|range| range.start).chain([count]);
    let gaps = starts.zip(ends).map(|(start, end)| start..end);
    gaps.filter(|gap| !gap.is_empty()).collect()
}

/// Hints of a run's transactions, in their order.
pub(crate) fn hints<'a>(
    rules: &Rules,
    items: impl Iterator<Item = &'a Item>,
    view: &TxView<StateGuard>,
    templates: &Called<'_>,
    observed: &Observed,
) -> Vec<Hint> {
    let hint = |item| hint(rules, item, view, templates, observed).unwrap_or_default();
    items.map(hint).collect()
}

/// What is known of one invocation; none without its contract's templates.
pub(crate) fn hint(
    rules: &Rules,
    item: &Item,
    view: &TxView<StateGuard>,
    templates: &Called<'_>,
    observed: &Observed,
) -> Option<Hint> {
    let transaction = item.transaction.as_ref().ok()?;
    let payload = &transaction.payload;
    let templates = templates.get(&payload.contract[..])?.as_ref()?;
    let member = find(view, &transaction.sender_address)?;
    let context = CallContext {
        sender: &transaction.sender_address,
        sender_org: &member.organisation,
        sender_role: role_name(member.role()),
        sender_name: &member.name,
        tx_id: &transaction.tx_id,
        chain_id: &rules.chain_id,
        height: rules.context.height,
        time_ms: rules.context.timestamp_ms,
    };
    let (contract, method) = (&payload.contract, &payload.method);
    let mut found = templates.predict(contract, method, &payload.args, &context);
    let class = match &found {
        Some(found) if found.is_complete() => HintClass::Complete,
        _ => HintClass::Predicted,
    };
    if class == HintClass::Predicted {
        // What the compiler could not tell, the last blocks may.
        if let Some(seen) = observed.expect(call_of(transaction)) {
            let found = found.get_or_insert_default();
            join(&mut found.reads, &seen.reads);
            join(&mut found.writes, &seen.writes);
            join(&mut found.adds, &seen.adds);
        }
    }
    let found = found?;
    let keys = |keys: Vec<Vec<u8>>| keys.into_iter().map(HintKey::new).collect();
    Some(Hint {
        class,
        reads: keys(found.reads),
        writes: keys(found.writes),
        deltas: keys(found.adds),
    })
}

pub(crate) fn call_of(transaction: &CheckedTransaction) -> Call<'_> {
    Call {
        contract: &transaction.payload.contract,
        method: &transaction.payload.method,
        sender: &transaction.sender_address,
        args: &transaction.payload.args,
    }
}

fn join(keys: &mut Vec<Vec<u8>>, more: &[Vec<u8>]) {
    for key in more {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_what_lies_between_them_are_the_run_in_its_order() {
        for (count, ranges) in [
            (10, vec![0..3, 6..10]),
            (10, vec![2..5, 9..10]),
            (5, Vec::new()),
            (5, vec![0..2, 2..5]),
        ] {
            let rest = between(&ranges, count);
            for workers in [1, 3, 96] {
                let place = |at: usize| Hint {
                    reads: vec![HintKey::new(at.to_be_bytes())],
                    ..Hint::default()
                };
                let piece =
                    |range: Range<usize>| Piece::new(range.start, range.map(place).collect());
                let made = |ranges: &[Range<usize>]| -> Hints {
                    cut(ranges, workers, 2).into_iter().map(piece).collect()
                };
                let all = made(&ranges).with(made(&rest));
                let expected: Vec<Hint> = (0..count).map(place).collect();
                assert!(all.iter().eq(&expected), "{count}, {ranges:?}");
                let outlined: Hints = cut(&ranges, workers, 2)
                    .into_iter()
                    .map(piece)
                    .map(Piece::outlined)
                    .collect();
                let seen: usize = outlined.outlines().map(Outline::len).sum();
                assert_eq!(
                    seen,
                    ranges.iter().map(ExactSizeIterator::len).sum::<usize>()
                );
                let groups = all.into_groups(workers);
                assert_eq!(groups.len(), workers);
                let kept: usize = groups.iter().flatten().map(|piece| piece.hints.len()).sum();
                assert_eq!(kept, count);
            }
        }
    }
}
