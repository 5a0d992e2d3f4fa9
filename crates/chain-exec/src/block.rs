//! One transaction after another, each on what the earlier ones left.

use chain_crypto::{verify_ed25519_batch, Signed};
use chain_state::{keys, BlockOverlay, StateGuard, TxView};
use chain_types::proto::{
    BlockContext, ChainConfig, ContractStatus, Member, PayloadKind, Receipt, ReceiptStatus, Role,
};
use chain_types::{
    decode_transaction, endorsement_message, sender_message, wid, CheckedTransaction, FormatError,
    Hash,
};
use chain_vm::{Frame, Machine};

use crate::admin::{config_action, contract, contract_action, unknown_contract, Hook};
use crate::members::{check_policy, find, role_name, sender, View};
use crate::receipt::{consumes_id, from_outcome, Refusal};
use crate::window::Window;

/// What a block of transactions runs against.
pub(crate) struct BlockRun<'a> {
    pub(crate) chain_id: &'a str,
    pub(crate) config: &'a ChainConfig,
    pub(crate) context: &'a BlockContext,
    pub(crate) machine: &'a mut Machine,
    pub(crate) window: &'a mut Window,
}

/// A transaction's bytes, decoded, and whether its signatures hold.
pub(crate) struct Item {
    wid: Hash,
    transaction: Result<CheckedTransaction, FormatError>,
    signed: bool,
}

/// Decode every transaction and check the signatures of those not known to be valid, in one batch.
pub(crate) fn prepare(batch: &[Vec<u8>], verified: &[u8]) -> Vec<Item> {
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
pub(crate) struct Executed {
    pub(crate) receipt: Receipt,
    pub(crate) tx_id: Hash,
    pub(crate) expiry_height: u64,
}

impl BlockRun<'_> {
    /// Execute one transaction on the block so far.
    pub(crate) fn execute(
        &mut self,
        item: &Item,
        base: StateGuard,
        block: BlockOverlay,
    ) -> (Executed, StateGuard, BlockOverlay) {
        let view = TxView::new(base, block);
        let transaction = match &item.transaction {
            Ok(transaction) => transaction,
            Err(_) => {
                let refusal = Refusal::arguments("malformed transaction");
                let receipt = refused(&refusal, [0; 32], item.wid, &view);
                let (base, block) = view.rollback();
                return (
                    Executed {
                        receipt,
                        tx_id: [0; 32],
                        expiry_height: 0,
                    },
                    base,
                    block,
                );
            }
        };
        let (receipt, view) = self.run(transaction, item.signed, view);
        let receipt = Receipt {
            tx_id: transaction.tx_id.to_vec(),
            wid: item.wid.to_vec(),
            access_hash: view
                .access_hash(receipt.status() == ReceiptStatus::Ok)
                .to_vec(),
            ..receipt
        };
        let mut expiry_height = 0;
        if consumes_id(receipt.status()) {
            expiry_height = transaction.payload.expiry_height;
            self.window.insert(transaction.tx_id, expiry_height);
        }
        let ok = receipt.status() == ReceiptStatus::Ok;
        let (base, block) = if ok { view.commit() } else { view.rollback() };
        (
            Executed {
                receipt,
                tx_id: transaction.tx_id,
                expiry_height,
            },
            base,
            block,
        )
    }

    fn run(
        &mut self,
        transaction: &CheckedTransaction,
        signed: bool,
        view: View,
    ) -> (Receipt, View) {
        let member = match self.admit(transaction, signed, &view) {
            Ok(member) => member,
            Err(refusal) => return (receipt_of(&refusal), view),
        };
        let payload = &transaction.payload;
        if transaction.kind == PayloadKind::Invoke {
            return self.invoke(transaction, &member, view);
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
                    contract_action(&mut view, self.machine, action, args, self.context.height)
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
            Ok(Some(hook)) => self.call(transaction, &member, hook, view),
            Err(refusal) => (receipt_of(&refusal), view),
        }
    }

    fn policy(&self, action: &str, tx: &CheckedTransaction, view: &View) -> Result<(), Refusal> {
        check_policy(view, self.config, action, tx, self.context.timestamp_ms)
    }

    /// Everything that is judged before the action itself, in the order of the specification.
    fn admit(
        &self,
        transaction: &CheckedTransaction,
        signed: bool,
        view: &View,
    ) -> Result<Member, Refusal> {
        let payload = &transaction.payload;
        if self.window.contains(&transaction.tx_id) {
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
        &mut self,
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
            Ok(hook) => self.call(transaction, member, hook, view),
            Err(refusal) => (receipt_of(&refusal), view),
        }
    }

    fn call(
        &mut self,
        transaction: &CheckedTransaction,
        member: &Member,
        hook: Hook,
        view: View,
    ) -> (Receipt, View) {
        let caller = Caller {
            chain_id: self.chain_id,
            tx_id: &transaction.tx_id,
            address: &transaction.sender_address,
            member,
            height: self.context.height,
            time_ms: self.context.timestamp_ms,
            read_only: false,
        };
        let limit = transaction.payload.gas_limit.min(self.config.gas_limit_max);
        call(self.machine, &caller, hook, limit, view)
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
            caller.address.to_vec(),
            caller.member.organisation.clone().into_bytes(),
            role_name(caller.member.role()).as_bytes().to_vec(),
            hook.contract.clone().into_bytes(),
            caller.tx_id.to_vec(),
            caller.chain_id.as_bytes().to_vec(),
            caller.member.name.clone().into_bytes(),
        ],
        height: signed(caller.height),
        time_ms: signed(caller.time_ms),
        args: hook.args,
        storage_prefix: keys::storage_prefix(&hook.contract),
        read_only: caller.read_only,
    };
    let code_key = keys::code(&hook.code_hash);
    let code = |view: &View| view.peek(&code_key).map(std::borrow::Cow::into_owned);
    let (outcome, view) = machine.call(&hook.code_hash, code, &hook.export, gas_limit, frame, view);
    (from_outcome(outcome, &hook.contract), view)
}

pub(crate) fn receipt_of(refusal: &Refusal) -> Receipt {
    Receipt {
        status: refusal.status.into(),
        message: refusal.message.clone(),
        ..Receipt::default()
    }
}

fn refused(refusal: &Refusal, tx_id: Hash, wid: Hash, view: &View) -> Receipt {
    Receipt {
        tx_id: tx_id.to_vec(),
        wid: wid.to_vec(),
        access_hash: view.access_hash(false).to_vec(),
        ..receipt_of(refusal)
    }
}
