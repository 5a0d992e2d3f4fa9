//! What is known of a run's transactions before they run.

use std::collections::HashMap;
use std::sync::Arc;

use chain_state::{StateGuard, TxView};
use chain_types::CheckedTransaction;

use crate::block::{Item, Rules};
use crate::hints::{CallContext, Templates};
use crate::members::{find, role_name};
use crate::observed::{Call, Observed};
use crate::scheduler::{Hint, HintClass, HintKey};

/// The templates of each contract that a run calls.
pub(crate) type Called<'a> = HashMap<&'a str, Option<Arc<Templates>>>;

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
