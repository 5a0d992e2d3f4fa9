//! One transaction after another, each on what the earlier ones left.

use chain_crypto::{verify_ed25519_batch, Signed};
use chain_state::{keys, Workers};
use chain_types::proto::{
    BlockContext, ChainConfig, ContractStatus, Member, PayloadKind, Receipt, ReceiptStatus, Role,
};
use chain_types::{
    decode_transaction, encode_canonical, endorsement_message, sender_message, wid,
    CheckedTransaction, FormatError, Hash,
};
use chain_vm::{Frame, Machine, Missing};

use crate::admin::{config_action, contract, contract_action, unknown_contract, Hook};
use crate::members::{check_policy, find, role_name, sender, View};
use crate::parts::Parts;
use crate::receipt::{consumes_id, from_outcome, Refusal};

/// What every transaction of a block is judged and executed by.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) chain_id: String,
    pub(crate) config: ChainConfig,
    pub(crate) context: BlockContext,
}

/// Below this a worker costs more than its share of the decoding.
const PREPARED_PER_WORKER_MIN: usize = 64;

/// A transaction's bytes, decoded, and whether its signatures hold.
pub(crate) struct Item {
    wid: Hash,
    pub(crate) transaction: Result<CheckedTransaction, FormatError>,
    signed: bool,
}

impl Item {
    /// Whether it may change what other transactions are judged by.
    pub(crate) fn is_barrier(&self) -> bool {
        let kind = self
            .transaction
            .as_ref()
            .map(|transaction| transaction.kind);
        !matches!(kind, Ok(PayloadKind::Invoke) | Err(_))
    }

    /// The transaction's id, of one that can be decoded.
    pub(crate) fn tx_id(&self) -> Option<&Hash> {
        self.transaction.as_ref().ok().map(|one| &one.tx_id)
    }
}

/// Decode every transaction and check the signatures of those not known to be valid, shared among
/// the workers.
pub(crate) fn prepare(batch: &[&[u8]], verified: &[u8], workers: &dyn Workers) -> Parts<Item> {
    Parts::make(workers, batch.len(), PREPARED_PER_WORKER_MIN, |range| {
        prepare_part(&batch[range.clone()], &verified[range])
    })
}

fn prepare_part(batch: &[&[u8]], verified: &[u8]) -> Vec<Item> {
    let mut items: Vec<Item> = batch
        .iter()
        .zip(verified)
        .map(|(bytes, verified)| Item {
            wid: wid(bytes),
            transaction: decode_transaction(bytes),
            signed: *verified == 1,
        })
        .collect();
    let unsigned: Vec<usize> = (0..items.len())
        .filter(|index| !items[*index].signed)
        .collect();
    let mut messages = Vec::new();
    for &index in &unsigned {
        let Ok(transaction) = &items[index].transaction else {
            continue;
        };
        let sender = transaction.sender().to_vec();
        let message = sender_message(&transaction.tx_id);
        messages.push((index, sender, message, transaction.signature.to_vec()));
        for (endorser, signature) in &transaction.endorsements {
            let message = endorsement_message(&transaction.tx_id);
            messages.push((index, endorser.to_vec(), message, signature.to_vec()));
        }
    }
    let signed: Vec<Signed<'_>> = messages
        .iter()
        .map(|(_, public_key, message, signature)| Signed {
            public_key,
            message,
            signature,
        })
        .collect();
    let verdicts = verify_ed25519_batch(&signed);
    for index in unsigned {
        items[index].signed = true;
    }
    for ((index, ..), valid) in messages.iter().zip(verdicts) {
        items[*index].signed &= valid;
    }
    items
}

/// A receipt with what the caller keeps beside it.
#[derive(Debug)]
pub(crate) struct Executed {
    /// Canonical.
    pub(crate) receipt: Vec<u8>,
    pub(crate) ok: bool,
    pub(crate) gas_used: u64,
    pub(crate) tx_id: Hash,
    pub(crate) expiry_height: u64,
}

impl Rules {
    /// Execute one transaction on a view; its writes count only when it is `ok`.
    pub(crate) fn execute(
        &self,
        machine: &mut Machine,
        item: &Item,
        duplicate: bool,
        view: View,
    ) -> (Executed, View) {
        let Ok(transaction) = &item.transaction else {
            let refusal = Refusal::arguments("malformed transaction");
            return (self.executed(receipt_of(&refusal), item, &view), view);
        };
        let (receipt, view) = self.run(machine, transaction, item.signed, duplicate, view);
        (self.executed(receipt, item, &view), view)
    }

    fn executed(&self, receipt: Receipt, item: &Item, view: &View) -> Executed {
        let transaction = item.transaction.as_ref().ok();
        let tx_id = transaction.map_or([0; 32], |transaction| transaction.tx_id);
        let ok = receipt.status() == ReceiptStatus::Ok;
        let used_up = transaction.filter(|_| consumes_id(receipt.status()));
        let receipt = Receipt {
            tx_id: tx_id.to_vec(),
            wid: item.wid.to_vec(),
            access_hash: view.access_hash(ok).to_vec(),
            ..receipt
        };
        Executed {
            ok,
            gas_used: receipt.gas_used,
            tx_id,
            expiry_height: used_up.map_or(0, |transaction| transaction.payload.expiry_height),
            receipt: encode_canonical(&receipt),
        }
    }

    /// Whether an invocation will use its id up: its admission alone decides.
    pub(crate) fn uses_id_up(&self, item: &Item, view: &View) -> bool {
        let Ok(transaction) = &item.transaction else {
            return false;
        };
        match self.admit(transaction, item.signed, false, view) {
            Ok(_) => true,
            Err(refusal) => consumes_id(refusal.status),
        }
    }

    fn run(
        &self,
        machine: &mut Machine,
        transaction: &CheckedTransaction,
        signed: bool,
        duplicate: bool,
        view: View,
    ) -> (Receipt, View) {
        let member = match self.admit(transaction, signed, duplicate, &view) {
            Ok(member) => member,
            Err(refusal) => return (receipt_of(&refusal), view),
        };
        let payload = &transaction.payload;
        if transaction.kind == PayloadKind::Invoke {
            return self.invoke(machine, transaction, &member, view);
        }
        let mut view = view;
        let done = if transaction.kind == PayloadKind::Config {
            self.policy("config", transaction, &view)
                .and_then(|()| config_action(&mut view, &payload.method, &payload.args))
                .map(|()| None)
        } else {
            self.policy("contract-admin", transaction, &view)
                .and_then(|()| {
                    let (action, args) = (payload.method.as_str(), payload.args.as_slice());
                    contract_action(&mut view, machine, action, args, self.context.height)
                })
        };
        match done {
            Ok(None) => (
                Receipt {
                    status: ReceiptStatus::Ok.into(),
                    ..Receipt::default()
                },
                view,
            ),
            Ok(Some(hook)) => self.call(machine, transaction, &member, hook, view),
            Err(refusal) => (receipt_of(&refusal), view),
        }
    }

    fn policy(&self, action: &str, tx: &CheckedTransaction, view: &View) -> Result<(), Refusal> {
        check_policy(view, &self.config, action, tx, self.context.timestamp_ms)
    }

    /// Everything that is judged before the action itself, in the order of the specification.
    fn admit(
        &self,
        transaction: &CheckedTransaction,
        signed: bool,
        duplicate: bool,
        view: &View,
    ) -> Result<Member, Refusal> {
        let payload = &transaction.payload;
        if duplicate {
            let message = "this transaction id already has a receipt";
            return Err(Refusal::new(ReceiptStatus::Duplicate, message));
        }
        let height = self.context.height;
        let last = height.saturating_add(self.config.expiry_window);
        if !(height..=last).contains(&payload.expiry_height) {
            let message = "the block's height is outside the transaction's window";
            return Err(Refusal::new(ReceiptStatus::Expired, message));
        }
        let member = find(view, &transaction.sender_address);
        let member = sender(member, Some(self.context.timestamp_ms))?;
        if !signed {
            let message = "a signature does not verify";
            return Err(Refusal::new(ReceiptStatus::BadEndorsement, message));
        }
        if payload.chain_id != self.chain_id {
            return Err(Refusal::arguments("the transaction is for another chain"));
        }
        if member.role() == Role::Light {
            let message = "light members may only read";
            return Err(Refusal::new(ReceiptStatus::PolicyNotMet, message));
        }
        Ok(member)
    }

    fn invoke(
        &self,
        machine: &mut Machine,
        transaction: &CheckedTransaction,
        member: &Member,
        view: View,
    ) -> (Receipt, View) {
        let payload = &transaction.payload;
        match target(
            &view,
            &payload.contract,
            &format!("c:{}", payload.method),
            &payload.args,
        ) {
            Ok(hook) => self.call(machine, transaction, member, hook, view),
            Err(refusal) => (receipt_of(&refusal), view),
        }
    }

    fn call(
        &self,
        machine: &mut Machine,
        transaction: &CheckedTransaction,
        member: &Member,
        hook: Hook,
        view: View,
    ) -> (Receipt, View) {
        let caller = Caller {
            chain_id: &self.chain_id,
            tx_id: &transaction.tx_id,
            address: &transaction.sender_address,
            member,
            height: self.context.height,
            time_ms: self.context.timestamp_ms,
            read_only: false,
        };
        let limit = transaction.payload.gas_limit.min(self.config.gas_limit_max);
        call(machine, &caller, hook, limit, view)
    }
}

/// Who a contract is told is calling, and when.
pub(crate) struct Caller<'a> {
    pub(crate) chain_id: &'a str,
    pub(crate) tx_id: &'a [u8],
    pub(crate) address: &'a [u8],
    pub(crate) member: &'a Member,
    pub(crate) height: u64,
    pub(crate) time_ms: u64,
    pub(crate) read_only: bool,
}

/// The call of an export of an active contract.
pub(crate) fn target(view: &View, name: &str, export: &str, args: &[u8]) -> Result<Hook, Refusal> {
    let record = contract(view, name).ok_or_else(unknown_contract)?;
    if record.status() != ContractStatus::Active {
        let message = "the contract is frozen or revoked";
        return Err(Refusal::new(ReceiptStatus::ContractFrozen, message));
    }
    let code_hash = record
        .code_hash
        .as_slice()
        .try_into()
        .expect("written as a SHA-256 digest");
    Ok(Hook {
        export: export.to_owned(),
        code_hash,
        contract: name.to_owned(),
        args: args.to_vec(),
    })
}

/// The code of a contract that another one calls. The record is read: it decides the outcome. The
/// code is not: under its hash it never changes.
fn callee(view: &mut View, name: &str) -> Result<Hash, Missing> {
    view.get(&keys::contract(name));
    let record = contract(view, name).ok_or(Missing::Unknown)?;
    if record.status() != ContractStatus::Active {
        return Err(Missing::Frozen);
    }
    let code_hash = record.code_hash.as_slice().try_into();
    Ok(code_hash.expect("written as a SHA-256 digest"))
}

/// Run a call in the machine.
pub(crate) fn call(
    machine: &mut Machine,
    caller: &Caller<'_>,
    hook: Hook,
    gas_limit: u64,
    view: View,
) -> (Receipt, View) {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let frame = Frame {
        fields: [
            caller.address,
            caller.member.organisation.as_bytes(),
            role_name(caller.member.role()).as_bytes(),
            hook.contract.as_bytes(),
            caller.tx_id,
            caller.chain_id.as_bytes(),
            caller.member.name.as_bytes(),
            b"",
            b"",
        ],
        height: signed(caller.height),
        time_ms: signed(caller.time_ms),
        args: &hook.args,
        storage_prefix: &keys::storage_prefix(&hook.contract),
        read_only: caller.read_only,
        find: Some(callee),
    };
    let code = |view: &View| {
        let code = view.peek(&keys::code(&hook.code_hash));
        code.map(std::borrow::Cow::into_owned)
    };
    let (outcome, view) =
        machine.call(&hook.code_hash, code, &hook.export, gas_limit, &frame, view);
    (from_outcome(outcome, &hook.contract), view)
}

pub(crate) fn receipt_of(refusal: &Refusal) -> Receipt {
    Receipt {
        status: refusal.status.into(),
        message: refusal.message.clone(),
        ..Receipt::default()
    }
}
