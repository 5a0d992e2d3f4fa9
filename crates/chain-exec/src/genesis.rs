//! The state before the first block, and what every member record must meet.

use std::collections::BTreeSet;

use chain_crypto::is_torsion_free;
use chain_state::keys;
use chain_types::proto::{Genesis, Member, MemberStatus, Role};
use chain_types::{address, decode_canonical, encode_canonical, sha256};

use crate::executor::ExecutionError;

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Rules of one member record on its own.
pub(crate) fn check_member(member: &Member) -> Result<(), &'static str> {
    // A key with a torsion part would have several equivalent signatures under the cofactored rule.
    if member.public_key.len() != 32 || !is_torsion_free(&member.public_key) {
        return Err("member.public_key must be an Ed25519 key in the prime-order subgroup");
    }
    if matches!(Role::try_from(member.role), Err(_) | Ok(Role::Unspecified)) {
        return Err("member.role must be one of admin, client, consensus, common, light");
    }
    if !(1..=128).contains(&member.name.len()) {
        return Err("member.name must be 1 to 128 bytes");
    }
    Ok(())
}

/// The genesis and the writes it stands for, sorted by key.
pub(crate) fn read(bytes: &[u8], chain_id: &str) -> Result<(Genesis, Writes), ExecutionError> {
    let refuse = |rule: &str| ExecutionError::Malformed(format!("genesis: {rule}"));
    let genesis: Genesis = decode_canonical(bytes).map_err(|error| refuse(&error.to_string()))?;
    let config = genesis
        .config
        .as_ref()
        .ok_or_else(|| refuse("config must be present"))?;
    if config.chain_id != chain_id {
        return Err(refuse("config.chain_id is another chain's"));
    }
    let hash = sha256(&[b"chainnode/genesis/v1", bytes]);
    let mut writes: Writes = vec![
        (keys::CONFIG.to_vec(), Some(encode_canonical(config))),
        (keys::GENESIS.to_vec(), Some(hash.to_vec())),
    ];
    let mut organisations = BTreeSet::new();
    for organisation in &genesis.organisations {
        if organisation.id.is_empty() || !organisations.insert(organisation.id.as_str()) {
            return Err(refuse("organisation ids must be present and distinct"));
        }
        writes.push((
            keys::organisation(&organisation.id),
            Some(encode_canonical(organisation)),
        ));
    }
    let mut names = BTreeSet::new();
    for member in &genesis.members {
        check_member(member).map_err(refuse)?;
        if member.status() == MemberStatus::Unspecified {
            return Err(refuse("member.status must be set"));
        }
        if !organisations.contains(member.organisation.as_str()) {
            return Err(refuse(
                "member.organisation must be one of the organisations",
            ));
        }
        if !names.insert((&member.organisation, &member.name)) {
            return Err(refuse(
                "member.name must be distinct within its organisation",
            ));
        }
        let key = keys::member(&address(&member.public_key));
        writes.push((key, Some(encode_canonical(member))));
    }
    writes.sort();
    if writes.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(refuse("member.public_key must be distinct"));
    }
    Ok((genesis, writes))
}
