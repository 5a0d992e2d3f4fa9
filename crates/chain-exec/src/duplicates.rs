//! Transactions whose id has, or will have, a receipt before them.

use std::collections::HashSet;
use std::ops::Range;

use chain_state::{StateGuard, TxView, Workers};
use chain_types::Hash;

use crate::block::{Item, Rules};
use crate::parts::Parts;
use crate::window::Window;

/// Which transactions of a run are duplicates. Only of ids that come more than once must be known
/// whether their first transaction uses them up.
pub(crate) fn duplicates(
    workers: &dyn Workers,
    rules: &Rules,
    items: &Parts<Item>,
    run: Range<usize>,
    window: &Window,
    view: &TxView<StateGuard>,
) -> Vec<bool> {
    let mut duplicates = vec![false; run.len()];
    let taken = window.taken(workers, run.len(), |at| items[run.start + at].tx_id());
    for position in taken.before {
        duplicates[position] = true;
    }
    if taken.repeated.is_empty() {
        return duplicates;
    }
    let mut used_up: HashSet<&Hash> = HashSet::new();
    for (item, duplicate) in items.range(run).zip(&mut duplicates) {
        let Some(id) = item.tx_id().filter(|id| taken.repeated.contains(*id)) else {
            continue;
        };
        *duplicate |= used_up.contains(id);
        if !*duplicate && rules.uses_id_up(item, view) {
            used_up.insert(id);
        }
    }
    duplicates
}
