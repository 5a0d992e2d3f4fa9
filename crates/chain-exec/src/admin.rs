//! System actions: contract lifecycle and members.

use chain_state::keys;
use chain_types::proto::{
    ContractName, ContractPackage, ContractRecord, ContractStatus, Member, MemberChange,
    MemberStatus, ReceiptStatus,
};
use chain_types::{address, decode_canonical, encode_canonical, sha256, Hash};
use chain_vm::Machine;
use prost::Message;

use crate::genesis::check_member;
use crate::members::{find, organisations, records, View};
use crate::receipt::Refusal;

const ABI_SIZE_MAX_BYTES: usize = 256 * 1024;
const CONTRACT_NAME_LENGTH_MAX: usize = 64;
const VERSION_LENGTH_MAX: usize = 64;

/// A call the action still has to make: export, code hash, contract and arguments.
pub(crate) struct Hook {
    pub(crate) export: String,
    pub(crate) code_hash: Hash,
    pub(crate) contract: String,
    pub(crate) args: Vec<u8>,
}

/// A contract's record.
pub(crate) fn contract(view: &View, name: &str) -> Option<ContractRecord> {
    let bytes = view.peek(&keys::contract(name))?;
    Some(ContractRecord::decode(&*bytes).expect("only canonical records are ever stored"))
}

/// Carry out a CONTRACT_ADMIN action.
pub(crate) fn contract_action(
    view: &mut View,
    machine: &mut Machine,
    action: &str,
    args: &[u8],
    height: u64,
) -> Result<Option<Hook>, Refusal> {
    use ContractStatus::{Active, Frozen, Revoked};
    match action {
        "install" | "upgrade" => package(view, machine, action == "upgrade", args, height),
        "freeze" => change_contract(view, args, &[Active], Frozen),
        "unfreeze" => change_contract(view, args, &[Frozen], Active),
        "revoke" => change_contract(view, args, &[Active, Frozen], Revoked),
        _ => Err(Refusal::new(
            ReceiptStatus::UnknownMethod,
            "no such contract action",
        )),
    }
}

fn change_contract(
    view: &mut View,
    args: &[u8],
    from: &[ContractStatus],
    to: ContractStatus,
) -> Result<Option<Hook>, Refusal> {
    let ContractName { name } =
        decode_canonical(args).map_err(|_| Refusal::arguments("args must be a ContractName"))?;
    let mut record = contract(view, &name).ok_or_else(unknown_contract)?;
    if !from.contains(&record.status()) {
        return Err(Refusal::arguments(
            "the contract's status does not allow this",
        ));
    }
    record.set_status(to);
    view.put(keys::contract(&name), encode_canonical(&record));
    Ok(None)
}

pub(crate) fn unknown_contract() -> Refusal {
    Refusal::new(ReceiptStatus::UnknownContract, "no such contract")
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let ok = (1..=CONTRACT_NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(plain);
    if !ok {
        return Err(Refusal::arguments(
            "name must be 1 to 64 of A-Z a-z 0-9 _ -",
        ));
    }
    Ok(())
}

fn package(
    view: &mut View,
    machine: &mut Machine,
    upgrade: bool,
    args: &[u8],
    height: u64,
) -> Result<Option<Hook>, Refusal> {
    let package: ContractPackage =
        decode_canonical(args).map_err(|_| Refusal::arguments("args must be a ContractPackage"))?;
    check_name(&package.name)?;
    if package.abi.len() > ABI_SIZE_MAX_BYTES {
        return Err(Refusal::arguments("abi must be at most 262144 bytes"));
    }
    if package.version.len() > VERSION_LENGTH_MAX {
        return Err(Refusal::arguments("version must be at most 64 bytes"));
    }
    let status = match (contract(view, &package.name), upgrade) {
        (None, false) => ContractStatus::Active,
        (Some(_), false) => return Err(Refusal::arguments("a contract of this name exists")),
        (None, true) => return Err(unknown_contract()),
        (Some(record), true) if record.status() == ContractStatus::Revoked => {
            return Err(Refusal::arguments("a revoked contract cannot be upgraded"));
        }
        (Some(record), true) => record.status(),
    };
    let code_hash = sha256(&[&package.wasm]);
    let broken = |error: chain_vm::ModuleError| {
        Refusal::arguments(format!("wasm breaks the module rule `{}`", error.rule))
    };
    machine
        .try_instantiate(&code_hash, &package.wasm)
        .map_err(broken)?;
    let prefix = if upgrade { "u:" } else { "i:" };
    let export = machine
        .find_export(&code_hash, &package.wasm, prefix)
        .map_err(broken)?;
    let record = ContractRecord {
        name: package.name.clone(),
        version: package.version,
        code_hash: code_hash.to_vec(),
        abi_hash: sha256(&[&package.abi]).to_vec(),
        source_hash: package.source_hash,
        status: status.into(),
        installed_height: height,
    };
    view.put(keys::contract(&package.name), encode_canonical(&record));
    view.put(keys::abi(&package.name), package.abi);
    view.put(keys::code(&code_hash), package.wasm);
    match export {
        Some(export) => Ok(Some(Hook {
            export,
            code_hash,
            contract: package.name,
            args: package.init_args,
        })),
        None if package.init_args.is_empty() => Ok(None),
        None => Err(Refusal::arguments(
            "init_args without a method to take them",
        )),
    }
}

/// Carry out a CONFIG action.
pub(crate) fn config_action(view: &mut View, action: &str, args: &[u8]) -> Result<(), Refusal> {
    use MemberStatus::{Active, Frozen, Revoked};
    let (from, to): (&[MemberStatus], _) = match action {
        "member_add" => return add_member(view, args),
        "member_freeze" => (&[Active], Frozen),
        "member_unfreeze" => (&[Frozen], Active),
        "member_revoke" => (&[Active, Frozen], Revoked),
        _ => {
            return Err(Refusal::new(
                ReceiptStatus::UnknownMethod,
                "no such config action",
            ))
        }
    };
    let change = member_change(args)?;
    if change.member.is_some() {
        return Err(Refusal::arguments("only an address may be given"));
    }
    let mut member = find(view, &change.address)
        .ok_or_else(|| Refusal::arguments("no member has this address"))?;
    if !from.contains(&member.status()) {
        return Err(Refusal::arguments(
            "the member's status does not allow this",
        ));
    }
    member.set_status(to);
    view.put(keys::member(&change.address), encode_canonical(&member));
    Ok(())
}

fn member_change(args: &[u8]) -> Result<MemberChange, Refusal> {
    decode_canonical(args).map_err(|_| Refusal::arguments("args must be a MemberChange"))
}

fn add_member(view: &mut View, args: &[u8]) -> Result<(), Refusal> {
    let change = member_change(args)?;
    let mut member = match change.member {
        Some(member) if change.address.is_empty() => member,
        _ => return Err(Refusal::arguments("a member and no address must be given")),
    };
    check_member(&member).map_err(Refusal::arguments)?;
    if !organisations(view).contains(&member.organisation) {
        return Err(Refusal::arguments(
            "member.organisation is not of this chain",
        ));
    }
    let address = address(&member.public_key);
    for (key, bytes) in records(view, keys::MEMBER_TAG) {
        let other = Member::decode(&*bytes).expect("only canonical members are ever stored");
        if key[1..] == address {
            return Err(Refusal::arguments("this key is a member already"));
        }
        if other.organisation == member.organisation && other.name == member.name {
            return Err(Refusal::arguments(
                "this name is taken within the organisation",
            ));
        }
    }
    member.set_status(MemberStatus::Active);
    view.put(keys::member(&address), encode_canonical(&member));
    Ok(())
}
