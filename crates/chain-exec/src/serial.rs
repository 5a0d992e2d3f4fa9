//! One transaction after another on one thread.

use std::time::Instant;

use chain_state::{BlockOverlay, ReadTimes, StateGuard, TxView};

use crate::block::{Executed, Item, Rules};
use crate::executor::{Core, Progress};
use crate::graph::Access;

/// The plain engine: what every other one has to equal.
pub(crate) fn execute_serially<'a>(
    core: &mut Core,
    rules: &Rules,
    items: impl Iterator<Item = &'a Item>,
    progress: Progress,
) -> Progress {
    let Progress {
        mut base,
        mut block,
        net: _,
        mut result,
    } = progress;
    core.parallel.enter("execute");
    let start = Instant::now();
    let before = result.receipts.len();
    for item in items {
        let (executed, access);
        let view = TxView::new(base, block);
        (executed, access, _, (base, block)) = execute_one(core, rules, item, view);
        result.push(executed, access);
    }
    let spent = start.elapsed().as_nanos() as u64;
    core.parallel
        .measured(result.receipts.len() - before, spent);
    Progress {
        base,
        block,
        net: None,
        result,
    }
}

/// Execute one transaction and fold what it wrote into the block.
pub(crate) fn execute_one(
    core: &mut Core,
    rules: &Rules,
    item: &Item,
    view: TxView<StateGuard>,
) -> (
    Executed,
    Access,
    Option<ReadTimes>,
    (StateGuard, BlockOverlay),
) {
    let duplicate = item.tx_id().is_some_and(|id| core.window.contains(id));
    let (executed, mut view) = rules.execute(&mut core.machine, item, duplicate, view);
    let access = Access::new(view.take_access(), view.writes(), executed.ok);
    let times = view.take_times();
    let below = if executed.ok {
        view.commit()
    } else {
        view.rollback()
    };
    if executed.expiry_height > 0 {
        core.window.insert(executed.tx_id, executed.expiry_height);
    }
    (executed, access, times, below)
}
