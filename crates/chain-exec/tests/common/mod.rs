//! A small chain for tests: three organisations, their admins and clients, and signing.

use chain_exec::{BlockResult, Executor};
use chain_types::proto::{
    BlockContext, ChainConfig, ContractPackage, Endorsement, Genesis, Member, MemberStatus,
    Organisation, Payload, PayloadKind, Receipt, ReceiptStatus, Role, Transaction,
    TransactionBatch,
};
use chain_types::{encode_canonical, endorsement_message, sender_message, tx_id};
use ed25519_dalek::{Signer, SigningKey};
use prost::Message;

pub const CHAIN: &str = "test-chain";
pub const TIME_MS: u64 = 1_000_000;
pub const WINDOW: u64 = 100;

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn public(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_bytes().to_vec()
}

pub fn member(seed: u8, organisation: &str, role: Role) -> Member {
    Member {
        public_key: public(&key(seed)),
        organisation: organisation.into(),
        role: role.into(),
        name: format!("m{seed}"),
        status: MemberStatus::Active.into(),
        not_before_ms: 0,
        not_after_ms: TIME_MS * 10,
        ..Member::default()
    }
}

/// Admins 1, 2, 3 of organisations a, b, c; clients 11, 12, 13; client 14's certificate is over.
pub fn genesis() -> Genesis {
    let organisation = |id: &str| Organisation {
        id: id.into(),
        ..Organisation::default()
    };
    let mut members = vec![
        member(1, "a", Role::Admin),
        member(2, "b", Role::Admin),
        member(3, "c", Role::Admin),
        member(11, "a", Role::Client),
        member(12, "b", Role::Client),
        member(13, "c", Role::Light),
        member(14, "c", Role::Client),
    ];
    members[6].not_after_ms = TIME_MS - 1;
    Genesis {
        config: Some(ChainConfig {
            chain_id: CHAIN.into(),
            expiry_window: WINDOW,
            gas_limit_max: 1_000_000,
            ..ChainConfig::default()
        }),
        genesis_time_ms: TIME_MS,
        organisations: ["a", "b", "c"].map(organisation).to_vec(),
        members,
        validators: vec![],
    }
}

pub fn invoke(seed: u8, salt: u8, method: &str, args: &[u8]) -> Payload {
    Payload {
        chain_id: CHAIN.into(),
        kind: PayloadKind::Invoke.into(),
        contract: "bank".into(),
        method: method.into(),
        args: args.to_vec(),
        sender: public(&key(seed)),
        salt: vec![salt; 16],
        expiry_height: 50,
        gas_limit: 100_000,
        payer: vec![],
    }
}

pub fn system(kind: PayloadKind, seed: u8, salt: u8, method: &str, args: Vec<u8>) -> Payload {
    Payload {
        kind: kind.into(),
        contract: String::new(),
        args,
        ..invoke(seed, salt, method, b"")
    }
}

/// Sign with the seed whose key is the sender's, and let others endorse.
pub fn sign(payload: &Payload, seed: u8, endorsers: &[u8]) -> Vec<u8> {
    let id = tx_id(&encode_canonical(payload));
    let signature = key(seed).sign(&sender_message(&id)).to_bytes().to_vec();
    let mut endorsements: Vec<Endorsement> = endorsers
        .iter()
        .map(|seed| Endorsement {
            endorser: public(&key(*seed)),
            signature: key(*seed)
                .sign(&endorsement_message(&id))
                .to_bytes()
                .to_vec(),
        })
        .collect();
    endorsements.sort_by(|left, right| left.endorser.cmp(&right.endorser));
    let transaction = Transaction {
        payload: Some(payload.clone()),
        signature,
        endorsements,
    };
    encode_canonical(&transaction)
}

pub fn package(name: &str, wat: &str, init_args: &[u8]) -> Vec<u8> {
    encode_canonical(&ContractPackage {
        name: name.into(),
        version: "1".into(),
        wasm: wat::parse_str(wat).expect("test module"),
        abi: b"{}".to_vec(),
        source_hash: vec![7; 32],
        init_args: init_args.to_vec(),
    })
}

pub struct Chain {
    pub executor: Executor,
    pub height: u64,
}

impl Chain {
    pub fn new() -> Self {
        let executor = Executor::new(CHAIN);
        executor
            .genesis(&encode_canonical(&genesis()))
            .expect("a good genesis");
        Self {
            executor,
            height: 0,
        }
    }

    /// A chain where the bank contract holds 100 for member 11.
    pub fn with_bank() -> Self {
        let mut chain = Self::new();
        let args = package("bank", BANK, &100u64.to_be_bytes());
        let install = system(PayloadKind::ContractAdmin, 1, 0, "install", args);
        let installed = chain.block(&[sign(&install, 1, &[2])]);
        assert_eq!(
            statuses(&installed),
            [ReceiptStatus::Ok],
            "{:?}",
            receipts(&installed)
        );
        chain
    }

    pub fn block(&mut self, transactions: &[Vec<u8>]) -> BlockResult {
        self.block_verified(transactions, 0)
    }

    pub fn block_verified(&mut self, transactions: &[Vec<u8>], verified: u8) -> BlockResult {
        self.height += 1;
        let context = BlockContext {
            height: self.height,
            timestamp_ms: TIME_MS + self.height,
            randomness: vec![],
        };
        let batch = TransactionBatch {
            transactions: transactions.to_vec(),
        };
        let verified = vec![verified; transactions.len()];
        self.executor
            .execute_block(
                &encode_canonical(&context),
                &encode_canonical(&batch),
                &verified,
            )
            .expect("a block is never refused")
    }

    /// What member 11, 12 hold, read through a view.
    pub fn balance(&self, seed: u8) -> u64 {
        let who = chain_types::address(&public(&key(seed)));
        let receipt = self
            .executor
            .evaluate(&public(&key(11)), "bank", "balance", &who, 100_000);
        assert_eq!(receipt.status(), ReceiptStatus::Ok, "{receipt:?}");
        u64::from_be_bytes(receipt.result.try_into().expect("eight bytes"))
    }
}

pub fn receipts(result: &BlockResult) -> Vec<Receipt> {
    result
        .receipts
        .iter()
        .map(|bytes| Receipt::decode(&bytes[..]).expect("canonical"))
        .collect()
}

pub fn statuses(result: &BlockResult) -> Vec<ReceiptStatus> {
    receipts(result).iter().map(Receipt::status).collect()
}

/// Arguments of the bank's transfer.
pub fn transfer_args(to: u8, amount: u64) -> Vec<u8> {
    [
        &chain_types::address(&public(&key(to)))[..],
        &amount.to_be_bytes(),
    ]
    .concat()
}

/// Balances are 8 big-endian bytes under the address; `i:` gives its argument to member 11's
/// stand-in, the sender of the first call to `c:claim`.
pub const BANK: &str = r#"(module
  (import "sc1" "input" (func $input (param i32 i32) (result i32)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (import "sc1" "revert" (func $revert (param i32 i32 i32)))
  (import "sc1" "ctx_get" (func $ctx_get (param i32 i32 i32) (result i32)))
  (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_put" (func $db_put (param i32 i32 i32 i32)))
  (import "sc1" "db_del" (func $db_del (param i32 i32)))
  (import "sc1" "emit" (func $emit (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "pot")
  (data (i32.const 8) "moved")
  (data (i32.const 16) "too little")
  (func $swap (param i64) (result i64) (local $i i32) (local $out i64)
    (loop $next
      (local.set $out (i64.or (i64.shl (local.get $out) (i64.const 8))
        (i64.and (local.get 0) (i64.const 255))))
      (local.set 0 (i64.shr_u (local.get 0) (i64.const 8)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 8))))
    (local.get $out))
  (func $load (param $key i32) (result i64)
    (if (i32.lt_s (call $db_get (local.get $key) (i32.const 32) (i32.const 200) (i32.const 8))
        (i32.const 0)) (then (return (i64.const 0))))
    (call $swap (i64.load (i32.const 200))))
  (func $store (param $key i32) (param $value i64)
    (i64.store (i32.const 200) (call $swap (local.get $value)))
    (call $db_put (local.get $key) (i32.const 32) (i32.const 200) (i32.const 8)))
  (func (export "i:setup")
    (if (i32.ne (call $input (i32.const 64) (i32.const 8)) (i32.const 8))
      (then (call $revert (i32.const 9) (i32.const 0) (i32.const 0))))
    (call $db_put (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 8)))
  (func (export "c:claim")
    (drop (call $db_get (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 8)))
    (drop (call $ctx_get (i32.const 0) (i32.const 100) (i32.const 32)))
    (call $store (i32.const 100) (call $swap (i64.load (i32.const 64))))
    (call $db_del (i32.const 0) (i32.const 3)))
  (func (export "c:transfer") (local $have i64) (local $amount i64)
    (drop (call $ctx_get (i32.const 0) (i32.const 100) (i32.const 32)))
    (drop (call $input (i32.const 140) (i32.const 40)))
    (local.set $amount (call $swap (i64.load (i32.const 172))))
    (call $emit (i32.const 8) (i32.const 5) (i32.const 140) (i32.const 40))
    (local.set $have (call $load (i32.const 100)))
    (call $store (i32.const 140) (i64.add (call $load (i32.const 140)) (local.get $amount)))
    (if (i64.lt_u (local.get $have) (local.get $amount))
      (then (call $revert (i32.const 3) (i32.const 16) (i32.const 10))))
    (call $store (i32.const 100) (i64.sub (local.get $have) (local.get $amount)))
    (call $ret (i32.const 172) (i32.const 8)))
  (func (export "c:trap")
    (call $db_put (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3)) unreachable)
  (func (export "c:spin") (loop $again (br $again)))
  (func (export "v:balance")
    (drop (call $input (i32.const 140) (i32.const 32)))
    (i64.store (i32.const 300) (call $swap (call $load (i32.const 140))))
    (call $ret (i32.const 300) (i32.const 8)))
  (func (export "v:write")
    (call $db_put (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3))))"#;
