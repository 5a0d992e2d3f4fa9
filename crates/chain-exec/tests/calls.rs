//! Calls of one contract by another: who is seen, what is kept, what each failure says.

mod fixtures;

use chain_exec::{dependencies, BlockResult, Cause, Engine, Strategy};
use chain_types::encode_canonical;
use chain_types::proto::{ContractName, PayloadKind, Receipt, ReceiptStatus as S};
use chain_vm::contract_address;
use fixtures::*;

const IMPORTS: &str = r#"
  (import "sc1" "input" (func $input (param i32 i32) (result i32)))
  (import "sc1" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (import "sc1" "revert" (func $revert (param i32 i32 i32)))
  (import "sc1" "ctx_get" (func $ctx_get (param i32 i32 i32) (result i32)))
  (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_put" (func $db_put (param i32 i32 i32 i32)))
  (import "sc1" "db_add" (func $db_add (param i32 i32 i64 i64)))
  (import "sc1" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "sc1" "call" (func $call (param i32 i32 i32 i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1 256)"#;

/// `who` returns context fields 0, 2, 6, 7, 8 and 9; `touch` writes, adds and emits; the others
/// end in one way each, after a touch.
const CALLEE: &str = r#"
  (data (i32.const 0) "kcev")
  (func $field (param $at i32) (param $field i32) (result i32) (local $n i32)
    (local.set $n (call $ctx_get (local.get $field) (i32.add (local.get $at) (i32.const 1))
      (i32.const 100)))
    (i32.store8 (local.get $at) (local.get $n))
    (i32.add (local.get $at) (i32.add (local.get $n) (i32.const 1))))
  (func $who (local $at i32)
    (local.set $at (call $field (i32.const 1000) (i32.const 0)))
    (local.set $at (call $field (local.get $at) (i32.const 2)))
    (local.set $at (call $field (local.get $at) (i32.const 6)))
    (local.set $at (call $field (local.get $at) (i32.const 7)))
    (local.set $at (call $field (local.get $at) (i32.const 8)))
    (local.set $at (call $field (local.get $at) (i32.const 9)))
    (call $ret (i32.const 1000) (i32.sub (local.get $at) (i32.const 1000))))
  (func $touch
    (call $db_put (i32.const 0) (i32.const 1) (i32.const 3) (i32.const 1))
    (call $db_add (i32.const 1) (i32.const 1) (i64.const 5) (i64.const 0))
    (call $emit (i32.const 2) (i32.const 1) (i32.const 3) (i32.const 1)))
  (export "c:who" (func $who))
  (export "v:who" (func $who))
  (export "c:touch" (func $touch))
  (export "v:touch" (func $touch))
  (func (export "c:revert") (call $touch)
    (call $revert (i32.const 100) (i32.const 0) (i32.const 4)))
  (func (export "c:trap") (call $touch) (unreachable))
  (func (export "c:spin") (call $touch) (loop $for_ever (br $for_ever)))"#;

/// `call` calls what its arguments say: flags, three lengths (name, method, gas is 8 bytes), then
/// those; returns the status and what `fetch` gives. `try` writes, adds and emits around it.
const CALLER: &str = r#"
  (data (i32.const 0) "kcev")
  (func $run (result i32) (local $n i32) (local $at i32) (local $name i32) (local $method i32)
    (local.set $n (call $input (i32.const 1000) (i32.const 1000)))
    (local.set $name (i32.load8_u (i32.const 1001)))
    (local.set $method (i32.load8_u (i32.const 1002)))
    (local.set $at (i32.add (i32.const 1011) (local.get $name)))
    (call $call (i32.const 1011) (local.get $name) (local.get $at) (local.get $method)
      (i32.add (local.get $at) (local.get $method))
      (i32.sub (local.get $n)
        (i32.add (i32.const 11) (i32.add (local.get $name) (local.get $method))))
      (i64.load (i32.const 1003)) (i32.load8_u (i32.const 1000))))
  (func $call_it (local $status i32)
    (local.set $status (call $run))
    (i32.store8 (i32.const 2000) (local.get $status))
    (call $ret (i32.const 2000) (i32.add (i32.const 1)
      (call $fetch (i32.const 2001) (i32.const 1000)))))
  (export "c:call" (func $call_it))
  (export "v:call" (func $call_it))
  (func (export "c:try")
    (call $db_put (i32.const 0) (i32.const 1) (i32.const 3) (i32.const 1))
    (call $emit (i32.const 2) (i32.const 1) (i32.const 0) (i32.const 1))
    (call $call_it)
    (call $db_add (i32.const 1) (i32.const 1) (i64.const 7) (i64.const 0))
    (call $emit (i32.const 2) (i32.const 1) (i32.const 1) (i32.const 1)))"#;

const CATCH: u8 = 1;
const VIEW: u8 = 2;

fn args(flags: u8, contract: &str, method: &str, gas: u64, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![flags, contract.len() as u8, method.len() as u8];
    out.extend(gas.to_le_bytes());
    out.extend_from_slice(contract.as_bytes());
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(rest);
    out
}

fn install(chain: &mut Chain, name: &str, body: &str, salt: u8) {
    let package = package(name, &format!("(module {IMPORTS} {body})"), b"");
    let install = system(PayloadKind::ContractAdmin, 1, salt, "install", package);
    let result = chain.block(&[sign(&install, 1, &[2])]);
    assert_eq!(statuses(&result), [S::Ok], "{:?}", receipts(&result));
}

fn chain() -> Chain {
    let mut chain = Chain::new();
    install(&mut chain, "caller", CALLER, 200);
    install(&mut chain, "callee", CALLEE, 201);
    chain
}

struct Calls(Chain, u8);

impl Calls {
    fn new() -> Self {
        Self(chain(), 0)
    }

    fn transaction(&mut self, contract: &str, method: &str, args: &[u8], gas: u64) -> Vec<u8> {
        self.1 += 1;
        let mut payload = invoke(11, self.1, method, args);
        payload.contract = contract.into();
        payload.gas_limit = gas;
        sign(&payload, 11, &[])
    }

    fn block(&mut self, method: &str, args: &[u8]) -> (Receipt, BlockResult) {
        let transaction = self.transaction("caller", method, args, 100_000);
        let result = self.0.block(&[transaction]);
        (receipts(&result).remove(0), result)
    }

    fn call(&mut self, args: &[u8]) -> Receipt {
        self.block("call", args).0
    }

    fn admin(&mut self, action: &str, name: &str) {
        self.1 += 1;
        let args = encode_canonical(&ContractName { name: name.into() });
        let payload = system(PayloadKind::ContractAdmin, 1, self.1, action, args);
        let result = self.0.block(&[sign(&payload, 1, &[2])]);
        assert_eq!(statuses(&result), [S::Ok]);
    }
}

fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (part, rest) = rest.split_at(usize::from(*length));
        out.push(part);
        bytes = rest;
    }
    out
}

/// Contract, method, status, code and text of a caught failure.
fn caught(receipt: &Receipt) -> (u8, Vec<String>, u32) {
    assert_eq!(receipt.status(), S::Ok, "{receipt:?}");
    let mut rest = &receipt.result[1..];
    let mut texts = Vec::new();
    let mut code = 0;
    for field in 0..5 {
        let number = u32::from_be_bytes(rest[..4].try_into().unwrap());
        rest = &rest[4..];
        if field == 3 {
            code = number;
            continue;
        }
        let (text, after) = rest.split_at(number as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = after;
    }
    assert!(rest.is_empty());
    (receipt.result[0], texts, code)
}

#[test]
fn a_called_contract_sees_the_caller_and_who_signed() {
    let mut calls = Calls::new();
    let member = chain_types::address(&public(&key(11)));
    let direct = calls.transaction("callee", "who", b"", 100_000);
    let direct = receipts(&calls.0.block(&[direct])).remove(0);
    let own = contract_address(b"callee");
    let expected: [&[u8]; 6] = [&member, b"client", b"m11", b"", &member, &own];
    assert_eq!(parts(&direct.result), expected);
    for flags in [0, VIEW] {
        let nested = calls.call(&args(flags, "callee", "who", 0, b""));
        assert_eq!(nested.status(), S::Ok, "{nested:?}");
        let caller = contract_address(b"caller");
        let expected: [&[u8]; 6] = [&caller, b"contract", b"caller", b"caller", &member, &own];
        assert_eq!(nested.result[0], 0);
        assert_eq!(parts(&nested.result[1..]), expected);
    }
}

#[test]
fn a_failed_call_takes_back_its_writes_deltas_and_events_and_nothing_else() {
    let mut calls = Calls::new();
    let names = |receipt: &Receipt| -> Vec<(String, Vec<u8>)> {
        let events = receipt.events.iter();
        events
            .map(|event| (event.contract.clone(), event.data.clone()))
            .collect()
    };
    let event = |contract: &str, data: &[u8]| (contract.to_owned(), data.to_vec());
    let (receipt, result) = calls.block("try", &args(CATCH, "callee", "touch", 0, b""));
    let expected = [
        event("caller", b"k"),
        event("callee", b"v"),
        event("caller", b"c"),
    ];
    assert_eq!(names(&receipt), expected);
    assert_eq!(result.writes.len(), 4);
    for (method, status) in [("revert", 1), ("trap", 2), ("spin", 3)] {
        let mut calls = Calls::new();
        let args = args(CATCH, "callee", method, 20_000, b"");
        let (receipt, result) = calls.block("try", &args);
        assert_eq!(caught(&receipt).0, status);
        assert_eq!(
            names(&receipt),
            [event("caller", b"k"), event("caller", b"c")]
        );
        let keys: Vec<&[u8]> = result.writes.iter().map(|(key, _)| &key[..]).collect();
        let expected: [&[u8]; 2] = [b"\x04\x06callerc", b"\x04\x06callerk"];
        assert_eq!(keys, expected, "{method}");
    }
}

#[test]
fn every_failure_names_the_contract_the_method_and_why() {
    let mut calls = Calls::new();
    let check = |calls: &mut Calls, contract: &str, method: &str, number, status: &str| {
        let caught_args = args(CATCH, contract, method, 20_000, b"");
        let receipt = calls.call(&caught_args);
        let (found, texts, code) = caught(&receipt);
        assert_eq!(found, number, "{texts:?}");
        assert_eq!(texts[..3], [contract, method, status]);
        let uncaught = calls.call(&args(0, contract, method, 20_000, b""));
        assert_eq!((uncaught.status(), uncaught.error_code), (S::Reverted, 10));
        let shown = if code > 0 {
            format!(" {code}")
        } else {
            String::new()
        };
        let expected = format!("{contract}.{method}: {status}{shown} {}", texts[3]);
        assert_eq!(uncaught.message, expected);
        expected
    };
    let text = check(&mut calls, "callee", "revert", 1, "REVERTED");
    assert_eq!(text, "callee.revert: REVERTED 100 kcev");
    let text = check(&mut calls, "callee", "trap", 2, "TRAPPED");
    assert_eq!(text, "callee.trap: TRAPPED unreachable");
    check(&mut calls, "callee", "spin", 3, "OUT_OF_GAS");
    check(&mut calls, "nobody", "touch", 4, "UNKNOWN_CONTRACT");
    check(&mut calls, "callee", "nothing", 6, "UNKNOWN_METHOD");
    check(&mut calls, "caller", "call", 7, "REENTRANT");
    calls.admin("freeze", "callee");
    check(&mut calls, "callee", "touch", 5, "CONTRACT_FROZEN");
    calls.admin("unfreeze", "callee");
    let ok = calls.call(&args(0, "callee", "touch", 0, b""));
    assert_eq!(ok.status(), S::Ok);
    calls.admin("revoke", "callee");
    check(&mut calls, "callee", "touch", 5, "CONTRACT_FROZEN");
}

#[test]
fn what_a_view_calls_cannot_write() {
    let mut calls = Calls::new();
    let (_, texts, _) = caught(&calls.call(&args(CATCH | VIEW, "callee", "touch", 0, b"")));
    assert_eq!(texts[2..], ["TRAPPED", "write in a view"]);
    let sender = public(&key(11));
    let view = |args: &[u8]| {
        let executor = &calls.0.executor;
        executor.evaluate(&sender, "caller", "call", args, 100_000)
    };
    assert_eq!(view(&args(VIEW, "callee", "who", 0, b"")).status(), S::Ok);
    let refused = view(&args(CATCH, "callee", "who", 0, b""));
    assert_eq!(refused.status(), S::Trapped);
    assert_eq!(refused.message, "call of another contract's call in a view");
}

#[test]
fn a_chain_of_calls_ends_at_eight_and_at_a_contract_that_waits() {
    let mut calls = Calls::new();
    let names: Vec<String> = (0..9).map(|index| format!("link{index}")).collect();
    for (name, salt) in names.iter().zip(210..) {
        install(&mut calls.0, name, CALLER, salt);
    }
    // Each calls the next: `caller` and links 0 to 6 are eight.
    let chain_of = |last: &str, count: usize| {
        let mut inner = args(CATCH, last, "call", 0, b"");
        for name in names[..count].iter().rev() {
            inner = args(0, name, "call", 0, &inner);
        }
        inner
    };
    let receipt = calls.call(&chain_of("link7", 7));
    assert_eq!(receipt.status(), S::Ok, "{}", receipt.message);
    let text = String::from_utf8_lossy(&receipt.result).into_owned();
    assert!(
        text.contains("link7") && text.contains("CALL_DEPTH"),
        "{text}"
    );
    let receipt = calls.call(&chain_of("callee", 6));
    let text = String::from_utf8_lossy(&receipt.result).into_owned();
    assert!(text.contains("UNKNOWN_METHOD"), "{text}");
    for waits in ["caller", "link0", "link2"] {
        let receipt = calls.call(&chain_of(waits, 3));
        let text = String::from_utf8_lossy(&receipt.result).into_owned();
        assert!(text.contains(waits) && text.contains("REENTRANT"), "{text}");
    }
}

#[test]
fn a_call_costs_its_price_and_what_it_used_and_leaves_a_part() {
    let mut calls = Calls::new();
    let direct = calls.transaction("callee", "touch", b"", 100_000);
    let direct = receipts(&calls.0.block(&[direct])).remove(0).gas_used;
    let used = |calls: &mut Calls, name: &str, gas| {
        calls.call(&args(CATCH, name, "touch", gas, b"")).gas_used
    };
    // A name of the same length that does not exist costs the same but for what runs, and for
    // fetching the failure instead of nothing.
    let (call, none) = (used(&mut calls, "callee", 0), used(&mut calls, "nobody", 0));
    let record = ["nobody", "touch", "UNKNOWN_CONTRACT", "no such contract"];
    let fetched: usize = record.iter().map(|text| 4 + text.len()).sum::<usize>() + 4;
    // Both are fetched and returned: a byte costs one each time.
    assert_eq!(call - direct + 2 * fetched as u64, none);
    // Out of gas in the callee uses what it was given; the rest is the caller's.
    let spent = calls.call(&args(CATCH, "callee", "spin", 20_000, b""));
    assert!(
        (22_000..24_000).contains(&spent.gas_used),
        "{}",
        spent.gas_used
    );
    // Without a limit of its own it gets all but a 64th.
    let transaction = calls.transaction(
        "caller",
        "call",
        &args(CATCH, "callee", "spin", 0, b""),
        100_000,
    );
    let all = receipts(&calls.0.block(&[transaction])).remove(0);
    assert_eq!(caught(&all).0, 3);
    assert!((98_000..99_000).contains(&all.gas_used), "{}", all.gas_used);
}

#[test]
fn an_upgrade_of_the_callee_in_the_same_block_is_a_dependency() {
    let mut calls = Calls::new();
    let before = calls.transaction(
        "caller",
        "call",
        &args(CATCH, "callee", "new", 0, b""),
        90_000,
    );
    let after = calls.transaction(
        "caller",
        "call",
        &args(CATCH, "callee", "new", 0, b""),
        90_000,
    );
    let body = format!("(module {IMPORTS} (func (export \"c:new\")))");
    let upgrade = system(
        PayloadKind::ContractAdmin,
        1,
        250,
        "upgrade",
        package("callee", &body, b""),
    );
    let result = calls.0.block(&[before, sign(&upgrade, 1, &[2]), after]);
    let found = receipts(&result);
    assert_eq!(caught(&found[0]).1[2], "UNKNOWN_METHOD");
    assert_eq!(found[2].result, [0]);
    let edges: Vec<(u32, u32, Cause)> = dependencies(&result.accesses)
        .iter()
        .map(|edge| (edge.later, edge.earlier, edge.cause))
        .collect();
    assert_eq!(edges, [(1, 0, Cause::Anti), (2, 1, Cause::Read)]);
}

#[test]
fn the_memory_of_all_that_wait_is_one_budget() {
    let mut genesis = genesis();
    let config = genesis.config.as_mut().expect("every genesis has one");
    config.gas_limit_max = 10_000_000;
    let executor = chain_exec::Executor::new(CHAIN);
    executor
        .genesis(&encode_canonical(&genesis))
        .expect("a good genesis");
    let mut chain = Chain {
        executor,
        height: 0,
    };
    install(&mut chain, "callee", CALLEE, 201);
    let mut calls = Calls(chain, 0);
    // Each takes 16 MiB, then calls the next by the arguments it was given.
    let grow = "(func (export \"c:grow\") (drop (memory.grow (i32.const 255))) (call $call_it))";
    let body = CALLER.to_owned() + grow;
    for (index, salt) in (0..5).zip(210..) {
        install(&mut calls.0, &format!("grow{index}"), &body, salt);
    }
    let chain_of = |count: usize| {
        let mut inner = args(CATCH, "callee", "touch", 0, b"");
        for index in (1..count).rev() {
            inner = args(0, &format!("grow{index}"), "grow", 0, &inner);
        }
        inner
    };
    for (count, status) in [(3, S::Ok), (4, S::Ok), (5, S::Reverted)] {
        let (args, gas) = (chain_of(count), 10_000_000);
        let mut payload = invoke(11, count as u8, "grow", &args);
        payload.contract = "grow0".into();
        payload.gas_limit = gas;
        let mut seen = Vec::new();
        for engine in [Engine::Serial, Engine::Stm] {
            calls
                .0
                .executor
                .set_engine(2, Strategy::Always(engine), false);
            payload.salt[0] += 1;
            let result = calls.0.block(&[sign(&payload, 11, &[])]);
            let receipt = receipts(&result).remove(0);
            assert_eq!(receipt.status(), status, "{count}: {}", receipt.message);
            let text = String::from_utf8_lossy(&receipt.result);
            seen.push((receipt.message + &text, receipt.gas_used));
        }
        assert_eq!(seen[0], seen[1]);
        // Four are all there is: the last one's callee finds no room, and it catches that.
        if count >= 4 {
            assert!(
                seen[0].0.contains("memory of the transaction above 64 MiB"),
                "{seen:?}"
            );
        }
    }
}

#[test]
fn calls_and_events_are_counted_over_the_whole_transaction() {
    let flood = r#"
      (func (export "c:flood") (local $i i32)
        (loop $next
          (drop (call $run))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const 257)))))
      (func $many (local $i i32)
        (loop $next
          (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const 200)))))
      (export "c:many" (func $many))
      (func (export "c:both") (call $many) (call $call_it))"#;
    let mut calls = Calls::new();
    for (name, salt) in [("flood", 210), ("other", 211)] {
        install(&mut calls.0, name, &(CALLER.to_owned() + flood), salt);
    }
    let mut run = |method: &str, to: &str| {
        let args = args(CATCH, to, "many", 0, b"");
        let transaction = calls.transaction("flood", method, &args, 1_000_000);
        receipts(&calls.0.block(&[transaction])).remove(0)
    };
    let receipt = run("flood", "nobody");
    assert_eq!(receipt.status(), S::Trapped);
    assert_eq!(receipt.message, "too many contract calls");
    let receipt = run("both", "other");
    assert_eq!(caught(&receipt).1[2..], ["TRAPPED", "too many events"]);
    assert_eq!(receipt.events.len(), 200);
}
