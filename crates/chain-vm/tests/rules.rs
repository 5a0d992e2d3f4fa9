//! Every module rule refuses what it names, and the smallest module passes.

use chain_vm::{check_module, meter_module};

fn verdict(text: &str) -> Result<(), &'static str> {
    let wasm = wat::parse_str(text).expect("test module");
    let checked = check_module(&wasm).map_err(|error| error.rule);
    assert_eq!(
        meter_module(&wasm).map(|_| ()).map_err(|error| error.rule),
        checked
    );
    checked
}

#[test]
fn allowed_modules_pass_and_metered_ones_are_still_valid() {
    let allowed = [
        r#"(module (memory (export "memory") 1))"#,
        r#"(module (memory (export "memory") 4 256) (func (export "c:a")) (func (export "i:a")))"#,
        r#"(module (memory (export "memory") 1) (global (mut i64) (i64.const 1))
             (table 3 funcref) (elem (i32.const 0) $f) (data (i32.const 0) "x")
             (func $f (result i32 i32) (i32.extend8_s (i32.const 1)) (i32.const 2)))"#,
    ];
    for text in allowed {
        assert_eq!(verdict(text), Ok(()), "{text}");
        let metered = meter_module(&wat::parse_str(text).unwrap()).unwrap();
        wasmparser::validate(&metered).expect("a metered module is a module");
    }
}

#[test]
fn each_rule_refuses() {
    let memory = r#"(memory (export "memory") 1)"#;
    let many = |count: usize, item: &str| item.repeat(count);
    let refused = [
        (
            "imports",
            format!(r#"(import "env" "input" (func)) {memory}"#),
        ),
        (
            "imports",
            format!(r#"(import "sc1" "nothing" (func)) {memory}"#),
        ),
        (
            "imports",
            format!(r#"(import "sc1" "input" (func)) {memory}"#),
        ),
        ("imports", r#"(import "sc1" "memory" (memory 1))"#.into()),
        (
            "imports",
            format!(r#"(import "sc1" "g" (global i32)) {memory}"#),
        ),
        ("memory", "(func)".into()),
        ("memory", r#"(memory 1)"#.into()),
        ("memory", r#"(memory (export "memory") 5)"#.into()),
        ("memory", r#"(memory (export "memory") 1 257)"#.into()),
        ("start", format!("{memory} (func $f) (start $f)")),
        ("segment", format!(r#"{memory} (data "passive")"#)),
        ("segment", format!("{memory} (func $f) (elem func $f)")),
        (
            "operator",
            format!(r#"{memory} (data (i32.const 0) "") (func (data.drop 0))"#),
        ),
        (
            "operator",
            format!(
                r#"{memory} (data (i32.const 0) "") (func
            (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))"#
            ),
        ),
        (
            "operator",
            format!(
                "{memory} (table 1 funcref) (elem (i32.const 0)) (func
            (table.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))"
            ),
        ),
        (
            "operator",
            format!(
                "{memory} (table 1 funcref) (func
            (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))"
            ),
        ),
        (
            "operator",
            format!(
                "{memory} (table 1 funcref) (elem (i32.const 0)) (func
            (elem.drop 0))"
            ),
        ),
        ("valid", format!("{memory} (func (drop (f64.const 1)))")),
        ("valid", format!("{memory} (func (param f32))")),
        ("valid", format!("{memory} (func (return_call 0))")),
        ("valid", format!("{memory} (memory 1)")),
        ("valid", format!("{memory} (func (drop (ref.null func)))")),
        (
            "valid",
            format!("{memory} (func (drop (v128.const i64x2 0 0)))"),
        ),
        (
            "valid",
            format!("{memory} (func (drop (i32.trunc_sat_f64_s (f64.const 1))))"),
        ),
        ("table", format!("{memory} (table 4097 funcref)")),
        (
            "types",
            format!("{memory} (func (param {}))", many(33, "i32 ")),
        ),
        (
            "types",
            format!("{memory} (type (func (result {})))", many(17, "i32 ")),
        ),
        (
            "locals",
            format!("{memory} (func (local {}))", many(257, "i32 ")),
        ),
        ("functions", format!("{memory} {}", many(4097, "(func)"))),
        (
            "globals",
            format!("{memory} {}", many(1025, "(global i32 (i32.const 0))")),
        ),
        ("body", format!("{memory} (func {})", many(70_000, "nop "))),
        (
            "stack",
            format!("{memory} (func {} unreachable)", many(1025, "i32.const 0 ")),
        ),
        (
            "stack",
            format!(
                "{memory} (func {} {})",
                many(600, "block "),
                many(600, "end ")
            ),
        ),
        ("exports", format!(r#"{memory} (func (export "sc1:gas"))"#)),
        (
            "exports",
            format!(r#"{memory} (func (export "c:a") (param i32))"#),
        ),
        (
            "exports",
            format!(r#"{memory} (func (export "i:a")) (func (export "i:b"))"#),
        ),
        (
            "exports",
            format!(r#"{memory} (global (export "v:a") i32 (i32.const 0))"#),
        ),
        ("exports", {
            let exports: Vec<_> = (0..257)
                .map(|n| format!(r#"(func (export "f{n}"))"#))
                .collect();
            format!("{memory} {}", exports.join(" "))
        }),
    ];
    for (rule, text) in refused {
        let shown: String = text.chars().take(200).collect();
        assert_eq!(verdict(&format!("(module {text})")), Err(rule), "{shown}");
    }
    assert_eq!(check_module(&vec![0; 600_000]).unwrap_err().rule, "size");
    assert_eq!(check_module(b"\0asm").unwrap_err().rule, "valid");
    assert_eq!(
        check_module(b"\0asm\x0d\0\x01\0").unwrap_err().rule,
        "valid"
    );
}
