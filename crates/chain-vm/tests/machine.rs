//! The machine on hand-written modules: gas, traps, restore, depth.

use std::sync::Arc;

use chain_state::{BlockOverlay, SharedState, State, StateGuard, TxView};
use chain_vm::{Frame, Machine, Outcome, Status};
use parking_lot::RwLock;

const PREFIX: &[u8] = b"\x04\x01t";

fn module(body: &str) -> Vec<u8> {
    let imports = r#"
        (import "sc1" "input" (func $input (param i32 i32) (result i32)))
        (import "sc1" "fetch" (func $fetch (param i32 i32) (result i32)))
        (import "sc1" "ret" (func $ret (param i32 i32)))
        (import "sc1" "revert" (func $revert (param i32 i32 i32)))
        (import "sc1" "ctx_get" (func $ctx_get (param i32 i32 i32) (result i32)))
        (import "sc1" "ctx_i64" (func $ctx_i64 (param i32) (result i64)))
        (import "sc1" "db_get" (func $db_get (param i32 i32 i32 i32) (result i32)))
        (import "sc1" "db_has" (func $db_has (param i32 i32) (result i32)))
        (import "sc1" "db_put" (func $db_put (param i32 i32 i32 i32)))
        (import "sc1" "db_del" (func $db_del (param i32 i32)))
        (import "sc1" "db_add" (func $db_add (param i32 i32 i64 i64)))
        (import "sc1" "db_read_sum" (func $db_read_sum (param i32 i32 i32)))
        (import "sc1" "db_scan" (func $db_scan (param i32 i32 i32 i32 i32) (result i32)))
        (import "sc1" "db_next" (func $db_next (param i32 i32 i32) (result i32)))
        (import "sc1" "db_close" (func $db_close (param i32)))
        (import "sc1" "emit" (func $emit (param i32 i32 i32 i32)))
        (import "sc1" "hash" (func $hash (param i32 i32 i32 i32)))
        (import "sc1" "log" (func $log (param i32 i32 i32)))
        (import "sc1" "paillier_scalar_multiply"
          (func $scale (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
        (memory (export "memory") 1 8)"#;
    wat::parse_str(format!("(module {imports} {body})")).expect("test module")
}

struct Bench {
    machine: Machine,
    state: SharedState,
    code: Vec<u8>,
}

impl Bench {
    fn new(body: &str, reuse: bool) -> Self {
        let state = Arc::new(RwLock::new(State::default()));
        Self {
            machine: Machine::new(reuse),
            state,
            code: module(body),
        }
    }

    fn run(
        &mut self,
        entry: &str,
        gas_limit: u64,
        frame: Frame<'_>,
    ) -> (Outcome, TxView<StateGuard>) {
        let view = TxView::new(self.state.read_arc(), BlockOverlay::default());
        let frame = Frame {
            storage_prefix: PREFIX,
            ..frame
        };
        let code = self.code.clone();
        self.machine
            .call(&[1; 32], |_| Some(code), entry, gas_limit, &frame, view)
    }

    fn call(&mut self, entry: &str, args: &[u8]) -> Outcome {
        self.run(
            entry,
            10_000_000,
            Frame {
                args,
                ..Frame::default()
            },
        )
        .0
    }

    fn trap(&mut self, entry: &str) -> &'static str {
        match self.call(entry, b"").status {
            Status::Trapped(text) => text,
            other => panic!("{entry} ended as {other:?}"),
        }
    }

    fn put(&self, key: &[u8], value: &[u8]) {
        self.state
            .write()
            .apply([PREFIX, key].concat(), Some(value.to_vec()));
    }
}

/// Adds one to a counter byte in memory, a global and the state, and returns all three.
const STATEFUL: &str = r#"
    (global $g (mut i32) (i32.const 7))
    (func (export "c:bump")
        (i32.store8 (i32.const 100) (i32.add (i32.load8_u (i32.const 100)) (i32.const 1)))
        (global.set $g (i32.add (global.get $g) (i32.const 1)))
        (i32.store8 (i32.const 101) (global.get $g))
        (i32.store8 (i32.const 102) (memory.size))
        (call $ret (i32.const 100) (i32.const 3)))
    (func (export "c:grow")
        (drop (memory.grow (i32.const 1)))
        (i32.store8 (i32.const 65536) (i32.const 9)))
    (func (export "c:fail") (global.set $g (i32.const 50)) unreachable)
    (func (export "c:revert")
        (i32.store8 (i32.const 100) (i32.const 33))
        (call $revert (i32.const 5) (i32.const 100) (i32.const 1)))
    (func (export "c:past") (drop (i32.load (i32.const 65534))))
"#;

#[test]
fn a_reused_instance_is_as_new() {
    let mut reused = Bench::new(STATEFUL, true);
    let mut fresh = Bench::new(STATEFUL, false);
    for entry in [
        "c:bump",
        "c:bump",
        "c:grow",
        "c:bump",
        "c:past",
        "c:fail",
        "c:bump",
        "c:revert",
        "c:bump",
        "c:past",
        "c:nothing",
        "c:bump",
    ] {
        let expected = fresh.call(entry, b"");
        assert_eq!(reused.call(entry, b""), expected, "{entry}");
        if entry == "c:bump" {
            assert_eq!(expected.result, [1, 8, 1]);
        }
    }
    assert_eq!(reused.call("c:nothing", b"").status, Status::UnknownMethod);
    let reverted = Status::Reverted {
        code: 5,
        message: "!".into(),
    };
    assert_eq!(reused.call("c:revert", b"").status, reverted);
}

const WORK: &str = r#"
    (func $twice (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func (export "c:work") (local $i i32)
        (drop (call $input (i32.const 0) (i32.const 64)))
        (loop $again
            (if (i32.and (local.get $i) (i32.const 1))
                (then (i32.store (i32.const 8) (call $twice (local.get $i))))
                (else (i32.store (i32.const 12) (local.get $i)) (memory.fill (i32.const 20)
                    (i32.const 1) (i32.const 130))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 5))))
        (call $db_put (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 8))
        (drop (call $db_get (i32.const 0) (i32.const 4) (i32.const 200) (i32.const 8)))
        (call $emit (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 3))
        (call $ret (i32.const 200) (i32.const 8)))
"#;

#[test]
fn every_limit_below_the_need_runs_out_and_uses_exactly_the_limit() {
    let mut bench = Bench::new(WORK, true);
    let frame = || Frame {
        args: b"key!",
        ..Frame::default()
    };
    let whole = bench.run("c:work", 1 << 40, frame()).0;
    assert_eq!(whole.status, Status::Ok);
    assert_eq!(whole.result, [6, 0, 0, 0, 4, 0, 0, 0]);
    for limit in 0..whole.gas_used {
        let (outcome, _) = bench.run("c:work", limit, frame());
        assert_eq!(
            (outcome.status, outcome.gas_used),
            (Status::OutOfGas, limit)
        );
        assert!(outcome.result.is_empty() && outcome.events.is_empty());
    }
    assert_eq!(bench.run("c:work", whole.gas_used, frame()).0, whole);
}

#[test]
fn gas_of_a_small_function_is_what_the_schedule_says() {
    let mut bench = Bench::new(
        r#"(func (export "c:none"))
           (func (export "c:three") (drop (i32.const 1)))
           (func (export "c:arms") (local i32)
             (if (local.get 0) (then nop) (else nop nop nop)))
           (func (export "c:loop") (local i32)
             (loop (br_if 0 (i32.lt_u
               (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 4)))))"#,
        true,
    );
    // Each function's closing `end` weighs one as every instruction does.
    assert_eq!(bench.call("c:none", b"").gas_used, 1);
    assert_eq!(bench.call("c:three", b"").gas_used, 3);
    // local.get, if, else arm: nop x3 and its end; the then arm: nop and else; end.
    assert_eq!(bench.call("c:arms", b"").gas_used, 2 + 4 + 1);
    // Entry: loop and end. Each of four passes: seven instructions and the loop's end.
    assert_eq!(bench.call("c:loop", b"").gas_used, 2 + 4 * 8);
}

#[test]
fn traps_have_fixed_texts() {
    let mut bench = Bench::new(
        r#"(type $v (func)) (table 2 funcref) (elem (i32.const 0) $typed)
           (func $typed (param i32))
           (func (export "c:unreachable") unreachable)
           (func (export "c:load") (drop (i32.load (i32.const -1))))
           (func (export "c:div") (drop (i32.div_s (i32.const 1) (i32.const 0))))
           (func (export "c:overflow") (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))
           (func (export "c:table") (call_indirect (type $v) (i32.const 9)))
           (func (export "c:null") (call_indirect (type $v) (i32.const 1)))
           (func (export "c:type") (call_indirect (type $v) (i32.const 0)))
           (func (export "c:key") (drop (call $db_has (i32.const 65535) (i32.const 2))))
           (func (export "c:wrap") (drop (call $db_has (i32.const -1) (i32.const -1))))
           (func (export "c:value") (call $db_put (i32.const 0) (i32.const 1) (i32.const 65000)
             (i32.const 1000)))
           (func (export "c:out") (drop (call $input (i32.const 65536) (i32.const 1))))
           (func (export "c:ret") (call $ret (i32.const 1) (i32.const 65536)))
           (func (export "c:long") (drop (call $db_has (i32.const 0) (i32.const 1025))))
           (func (export "c:fetch") (drop (call $fetch (i32.const 0) (i32.const 9))))
           (func (export "c:field")
             (drop (call $ctx_get (i32.const 10) (i32.const 0) (i32.const 9))))
           (func (export "c:number") (drop (call $ctx_i64 (i32.const 2))))
           (func (export "c:scan")
             (drop (call $db_next (i32.const 0) (i32.const 0) (i32.const 9))))
           (func (export "c:hash")
             (call $hash (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
           (func (export "c:sum")
             (call $db_read_sum (i32.const 0) (i32.const 1) (i32.const 65530)))
           (func (export "c:scale") (memory.fill (i32.const 0) (i32.const 255) (i32.const 256))
             (drop (call $scale (i32.const 0) (i32.const 256) (i32.const 0) (i32.const 0)
               (i64.const 1) (i64.const 0) (i32.const 65025))))
           (func (export "c:counter") (call $db_put (i32.const 0) (i32.const 1) (i32.const 0)
             (i32.const 3)) (call $db_add (i32.const 0) (i32.const 1) (i64.const 1) (i64.const 0)))
           (func (export "c:huge") (call $db_add (i32.const 0) (i32.const 1) (i64.const -1)
             (i64.const 0x7fffffffffffffff)) (call $db_add (i32.const 0) (i32.const 1) (i64.const 1)
             (i64.const 0)))
           (func (export "v:write") (call $db_del (i32.const 0) (i32.const 1)))"#,
        true,
    );
    let expected = [
        ("c:unreachable", "unreachable"),
        ("c:load", "memory access out of bounds"),
        ("c:div", "integer division by zero"),
        ("c:overflow", "integer overflow"),
        ("c:table", "table index out of bounds"),
        ("c:null", "indirect call to null"),
        ("c:type", "indirect call with a wrong type"),
        ("c:key", "host buffer out of bounds"),
        ("c:value", "host buffer out of bounds"),
        ("c:out", "host buffer out of bounds"),
        ("c:ret", "host buffer out of bounds"),
        ("c:long", "key too long"),
        ("c:fetch", "nothing to fetch"),
        ("c:field", "unknown context field"),
        ("c:number", "unknown context field"),
        ("c:scan", "unknown scan"),
        ("c:hash", "unknown hash algorithm"),
        ("c:sum", "host buffer out of bounds"),
        ("c:scale", "host buffer out of bounds"),
        ("c:counter", "not a counter"),
        ("c:huge", "counter overflow"),
    ];
    for (entry, text) in expected {
        assert_eq!(bench.trap(entry), text, "{entry}");
    }
    // A length nobody could pay for ends on gas before it is looked at.
    assert_eq!(bench.call("c:wrap", b"").status, Status::OutOfGas);
    let view = bench
        .run(
            "v:write",
            10_000,
            Frame {
                read_only: true,
                ..Frame::default()
            },
        )
        .0;
    assert_eq!(view.status, Status::Trapped("write in a view"));
}

#[test]
fn recursion_stops_at_256_whatever_its_shape() {
    let mut bench = Bench::new(
        r#"(type $n (func (param i32))) (table 1 funcref) (elem (i32.const 0) $indirect)
           (func $down (param i32) (if (local.get 0)
             (then (call $down (i32.sub (local.get 0) (i32.const 1))))))
           (func $even (param i32) (if (local.get 0)
             (then (call $odd (i32.sub (local.get 0) (i32.const 1))))))
           (func $odd (param i32) (if (local.get 0)
             (then (call $even (i32.sub (local.get 0) (i32.const 1))))))
           (func $indirect (param i32) (if (local.get 0) (then
             (call_indirect (type $n) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
           (func $pick (param i32) (drop (call $input (i32.const 0) (i32.const 4)))
             (call_indirect (type $n) (local.get 0) (i32.const 0)))
           (func $n (result i32) (drop (call $input (i32.const 0) (i32.const 4)))
             (i32.load (i32.const 0)))
           (func (export "c:self") (call $down (call $n)))
           (func (export "c:mutual") (call $even (call $n)))
           (func (export "c:indirect") (call $indirect (call $n)))
           (func (export "c:twice") (call $down (call $n)) (call $down (call $n)))"#,
        true,
    );
    for entry in ["c:self", "c:mutual", "c:indirect", "c:twice"] {
        let at_limit = bench.call(entry, &256u32.to_le_bytes());
        assert_eq!(at_limit.status, Status::Ok, "{entry}");
        let beyond = bench.call(entry, &257u32.to_le_bytes());
        assert_eq!(
            beyond.status,
            Status::Trapped("call depth above 256"),
            "{entry}"
        );
    }
}

#[test]
fn a_long_chain_of_functions_never_reaches_the_engine_limit() {
    let chain = |length: usize| {
        let mut body = String::from("(func $f0)");
        for index in 1..length {
            body += &format!("(func $f{index} (call $f{}))", index - 1);
        }
        body + &format!("(func (export \"c:top\") (call $f{}))", length - 1)
    };
    let mut bench = Bench::new(&chain(4_000), true);
    assert_eq!(bench.call("c:top", b"").status, Status::Ok);
    // Wide frames on a cycle through a chain of the longest uncounted length.
    let locals = "(local i64) ".repeat(200);
    let mut body = String::new();
    for index in 0..31 {
        body += &format!("(func $g{index} {locals} (call $g{}))", index + 1);
    }
    body += &format!("(func $g31 {locals} (call $g0)) (func (export \"c:top\") (call $g0))");
    let mut bench = Bench::new(&body, true);
    assert_eq!(
        bench.call("c:top", b"").status,
        Status::Trapped("call depth above 256")
    );
}

#[test]
fn memory_grows_to_its_maximum_and_no_further() {
    let mut bench = Bench::new(
        r#"(func (export "c:all") (i32.store (i32.const 0) (memory.grow (i32.const 7)))
             (i32.store (i32.const 4) (memory.grow (i32.const 1)))
             (i32.store (i32.const 8) (memory.grow (i32.const -1)))
             (call $ret (i32.const 0) (i32.const 12)))"#,
        true,
    );
    let outcome = bench.call("c:all", b"");
    assert_eq!(outcome.result, [[1, 0, 0, 0], [255; 4], [255; 4]].concat());
    assert!(outcome.gas_used > 8 * 2_000);
}

#[test]
fn results_longer_than_the_buffer_wait_for_fetch() {
    let mut bench = Bench::new(
        r#"(func (export "c:long")
             (i32.store (i32.const 0) (call $input (i32.const 8) (i32.const 3)))
             (i32.store8 (i32.const 4) (i32.load8_u (i32.const 8)))
             (drop (call $fetch (i32.const 8) (i32.const 100)))
             (call $ret (i32.const 0) (i32.const 14)))"#,
        true,
    );
    let outcome = bench.call("c:long", b"abcdef");
    assert_eq!(outcome.result, b"\x06\0\0\0\0\0\0\0abcdef");
}

#[test]
fn scans_are_ordered_bounded_and_within_the_contract() {
    let mut bench = Bench::new(
        r#"(data (i32.const 0) "bd")
           (func $rows (param i32 i32 i32) (local $out i32) (local $n i32) (local $h i32)
             (local.set $h (call $db_scan (i32.const 0) (local.get 0) (i32.const 1) (local.get 1)
               (local.get 2)))
             (local.set $out (i32.const 1000))
             (block $done (loop $next
               (local.set $n (call $db_next (local.get $h) (local.get $out) (i32.const 100)))
               (br_if $done (i32.lt_s (local.get $n) (i32.const 0)))
               (local.set $out (i32.add (local.get $out) (local.get $n)))
               (br $next)))
             (call $db_close (local.get $h))
             (call $ret (i32.const 1000) (i32.sub (local.get $out) (i32.const 1000))))
           (func (export "c:all") (call $rows (i32.const 0) (i32.const 0) (i32.const 0)))
           (func (export "c:some") (call $rows (i32.const 1) (i32.const 1) (i32.const 0)))
           (func (export "c:back") (call $rows (i32.const 1) (i32.const 0) (i32.const 1)))"#,
        true,
    );
    for key in [b"a", b"b", b"c", b"d"] {
        bench.put(key, &key.to_ascii_uppercase());
    }
    bench
        .state
        .write()
        .apply(b"\x04\x01u".to_vec(), Some(b"foreign".to_vec()));
    let rows = |keys: &[u8]| -> Vec<u8> {
        keys.iter()
            .flat_map(|key| [0, 0, 0, 1, *key, key.to_ascii_uppercase()])
            .collect()
    };
    assert_eq!(bench.call("c:all", b"").result, rows(b"abcd"));
    assert_eq!(bench.call("c:some", b"").result, rows(b"bc"));
    assert_eq!(bench.call("c:back", b"").result, rows(b"dcb"));
}
