//! Who may do what, judged by the state before the transaction.

use std::collections::BTreeSet;

use chain_state::{keys, StateGuard, TxView};
use chain_types::proto::{ChainConfig, Member, MemberStatus, ReceiptStatus, Role};
use chain_types::{address, CheckedTransaction};
use prost::Message;

use crate::receipt::Refusal;

pub(crate) type View = TxView<StateGuard>;

/// A member record by address.
pub(crate) fn find(view: &View, address: &[u8]) -> Option<Member> {
    let bytes = view.peek(&keys::member(address))?;
    Some(Member::decode(&*bytes).expect("only canonical members are ever stored"))
}

fn in_time(member: &Member, time_ms: u64) -> bool {
    let last = if member.not_after_ms == 0 {
        u64::MAX
    } else {
        member.not_after_ms
    };
    (member.not_before_ms..=last).contains(&time_ms)
}

/// The sender's record when it may send at all.
pub(crate) fn sender(member: Option<Member>, time_ms: Option<u64>) -> Result<Member, Refusal> {
    let refuse = |status, message| Err(Refusal::new(status, message));
    let Some(member) = member else {
        return refuse(ReceiptStatus::UnknownMember, "the sender is not a member");
    };
    match member.status() {
        MemberStatus::Frozen => {
            return refuse(ReceiptStatus::MemberFrozen, "the sender is frozen");
        }
        MemberStatus::Active => {}
        MemberStatus::Revoked | MemberStatus::Unspecified => {
            return refuse(ReceiptStatus::MemberRevoked, "the sender is revoked");
        }
    }
    if time_ms.is_some_and(|time_ms| !in_time(&member, time_ms)) {
        return refuse(
            ReceiptStatus::CertificateExpired,
            "the sender's certificate is not valid at this time",
        );
    }
    Ok(member)
}

/// The role's name as contracts see it.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Client => "client",
        Role::Consensus => "consensus",
        Role::Common => "common",
        Role::Light => "light",
        Role::Unspecified => "",
    }
}

/// Whether enough organisations' admins stand behind an action.
pub(crate) fn check_policy(
    view: &View,
    config: &ChainConfig,
    action: &str,
    transaction: &CheckedTransaction,
    time_ms: u64,
) -> Result<(), Refusal> {
    let stated = config
        .policies
        .iter()
        .find(|policy| policy.action == action);
    let needed = match stated.map_or(0, |policy| policy.organisations) {
        0 => organisations(view).len() / 2 + 1,
        count => count as usize,
    };
    let sender = transaction.sender();
    let endorsers = transaction.endorsements.iter().map(|(key, _)| key);
    let admins = std::iter::once(&sender)
        .chain(endorsers)
        .filter_map(|key| find(view, &address(key)))
        .filter(|member| member.role() == Role::Admin)
        .filter(|member| member.status() == MemberStatus::Active && in_time(member, time_ms));
    let found = admins
        .map(|member| member.organisation)
        .collect::<BTreeSet<_>>()
        .len();
    if found < needed {
        return Err(Refusal::new(
            ReceiptStatus::PolicyNotMet,
            format!("`{action}` needs admins of {needed} organisations, {found} endorsed"),
        ));
    }
    Ok(())
}

/// Ids of all organisations.
pub(crate) fn organisations(view: &View) -> BTreeSet<String> {
    records(view, keys::ORGANISATION_TAG)
        .into_iter()
        .map(|(key, _)| String::from_utf8_lossy(&key[1..]).into_owned())
        .collect()
}

/// Every record under a tag, as this transaction sees it.
pub(crate) fn records(view: &View, tag: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut start = vec![tag];
    let end = [tag + 1];
    let mut found = Vec::new();
    while let Some((key, value)) = view.edge(&start, Some(&end), false) {
        start.clone_from(&key);
        start.push(0);
        found.push((key, value));
    }
    found
}
