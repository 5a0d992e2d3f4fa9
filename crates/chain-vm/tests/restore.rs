//! What one call wrote, wherever and however, is gone before the next one.

use std::sync::Arc;

use chain_state::{BlockOverlay, State, TxView};
use chain_vm::{Frame, Machine, Outcome, Status};
use parking_lot::RwLock;
use proptest::prelude::*;

const PREFIX: &[u8] = b"\x04\x01t";
const MEMORY_SIZE_BYTES: u32 = 2 * 65_536;
const WAYS: u32 = 14;

/// `c:write` reads (way, address, value, length) from its arguments and writes in that way, one
/// after another; `c:memory` returns all bytes.
const WRITER: &str = r#"(module
  (import "sc1" "input" (func $input (param i32 i32) (result i32)))
  (import "sc1" "fetch" (func $fetch (param i32 i32) (result i32)))
  (import "sc1" "ret" (func $ret (param i32 i32)))
  (import "sc1" "ctx_get" (func $ctx_get (param i32 i32 i32) (result i32)))
  (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
  (import "sc1" "db_read_sum" (func $db_read_sum (param i32 i32 i32)))
  (import "sc1" "hash" (func $hash (param i32 i32 i32 i32)))
  (memory (export "memory") 2 4)
  (data (i32.const 60) "near") (data (i32.const 70000) "far") (data (i32.const 131070) "ab")
  (global $left (mut i32) (i32.const 0))
  (func $word (result i32) (local $at i32)
    (local.set $at (i32.sub (i32.const 4096) (global.get $left)))
    (global.set $left (i32.sub (global.get $left) (i32.const 4)))
    (i32.load (local.get $at)))
  (func $one (param $way i32) (param $at i32) (param $value i32) (param $n i32)
    (block $13 (block $12 (block $11 (block $10 (block $9 (block $8 (block $7 (block $6
    (block $5 (block $4 (block $3 (block $2 (block $1 (block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 (local.get $way)))
      (return (i32.store8 (local.get $at) (local.get $value))))
      (return (i32.store16 (local.get $at) (local.get $value))))
      (return (i32.store offset=3 (local.get $at) (local.get $value))))
      (return (i64.store8 offset=1 (local.get $at) (i64.extend_i32_u (local.get $value)))))
      (return (i64.store16 (local.get $at) (i64.extend_i32_u (local.get $value)))))
      (return (i64.store32 (local.get $at) (i64.extend_i32_u (local.get $value)))))
      (return (i64.store offset=4090 (local.get $at) (i64.extend_i32_s (local.get $value)))))
      (return (memory.fill (local.get $at) (local.get $value) (local.get $n))))
      (return (memory.copy (local.get $at) (i32.const 60) (local.get $n))))
      (return (memory.copy (local.get $at) (local.get $value) (local.get $n))))
      (return (drop (call $ctx_get (i32.const 3) (local.get $at) (local.get $n)))))
      (return (drop (call $db_get (i32.const 60) (i32.const 4) (local.get $at) (i32.const 9)))))
      (return (call $hash (i32.const 0) (i32.const 0) (i32.const 9) (local.get $at))))
    (call $db_read_sum (i32.const 60) (i32.const 3) (local.get $at)))
  (func (export "c:write") (local $way i32) (local $at i32) (local $value i32)
    (global.set $left (call $input (i32.const 0) (i32.const 0)))
    (drop (call $fetch (i32.sub (i32.const 4096) (global.get $left)) (global.get $left)))
    (block $done (loop $next
      (br_if $done (i32.eqz (global.get $left)))
      (local.set $way (call $word)) (local.set $at (call $word)) (local.set $value (call $word))
      (call $one (local.get $way) (local.get $at) (local.get $value) (call $word))
      (br $next))))
  (func (export "c:memory") (call $ret (i32.const 0) (i32.const 131072))))"#;

fn run(machine: &mut Machine, entry: &str, args: &[u8]) -> Outcome {
    let mut state = State::default();
    state.apply([PREFIX, b"near"].concat(), Some(b"a value".to_vec()));
    let state = Arc::new(RwLock::new(state));
    let view = TxView::new(state.read_arc(), BlockOverlay::default());
    let mut frame = Frame {
        args,
        storage_prefix: PREFIX,
        ..Frame::default()
    };
    frame.fields[3] = b"a name";
    let code = |_: &_| Some(wat::parse_str(WRITER).expect("test module"));
    machine.call(&[1; 32], code, entry, 1 << 40, &frame, view).0
}

/// Most addresses are ordinary, some at the very ends, some outside.
fn address() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..MEMORY_SIZE_BYTES,
        2 => 0..2_000u32,
        1 => MEMORY_SIZE_BYTES - 50..MEMORY_SIZE_BYTES + 2,
        1 => (0..17u32).prop_map(|bit| 1 << bit),
    ]
}

fn writes() -> impl Strategy<Value = Vec<[u32; 4]>> {
    let write = (0..WAYS, address(), any::<u32>(), 0..300u32);
    let write = write.prop_map(|(way, at, value, length)| {
        // The sixth store's offset is large, the third copy's source an address.
        let at = if way == 6 {
            at.saturating_sub(4_090)
        } else {
            at
        };
        let value = if way == 9 {
            value % MEMORY_SIZE_BYTES
        } else {
            value
        };
        [way, at, value, length]
    });
    proptest::collection::vec(write, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_write_outlives_its_call(calls in proptest::collection::vec(writes(), 1..4)) {
        let mut reused = Machine::new(true);
        let mut fresh = Machine::new(false);
        let image = run(&mut fresh, "c:memory", b"").result;
        prop_assert_eq!(image.len(), MEMORY_SIZE_BYTES as usize);
        for writes in calls {
            let args: Vec<u8> = writes
                .iter()
                .flatten()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            let expected = run(&mut fresh, "c:write", &args);
            prop_assert_eq!(run(&mut reused, "c:write", &args), expected);
            prop_assert!(run(&mut reused, "c:memory", b"").result == image, "{:?}", writes);
        }
    }
}

#[test]
fn every_way_to_write_is_tried() {
    for way in 0..WAYS {
        let mut machine = Machine::new(true);
        let image = run(&mut machine, "c:memory", b"").result;
        let args: Vec<u8> = [way, 100_000, 77, 200]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(run(&mut machine, "c:write", &args).status, Status::Ok);
        assert!(run(&mut machine, "c:memory", b"").result == image, "{way}");
    }
}
