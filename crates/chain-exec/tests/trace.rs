//! The text form of a trace: what is written is read, what breaks a rule is refused by its line.

use chain_exec::oracle::{random_trace, Random};
use chain_exec::trace::{Scan, Trace, TraceTransaction};
use chain_exec::{simulate, Costs};

#[test]
fn what_is_written_is_read() {
    let mut random = Random(3);
    for _ in 0..200 {
        let mut trace = random_trace(&mut random);
        for one in &mut trace.transactions {
            one.gas_used = random.below(3) * 1_000;
            one.verify_ns = random.below(2) * 7_000;
            for (at, read) in one.reads.iter_mut().enumerate() {
                read.1 = (at as u64 * 90).min(one.cost_ns);
            }
        }
        assert_eq!(Trace::decode(&trace.encode()), Ok(trace));
    }
}

#[test]
fn comments_are_skipped_and_counted() {
    let text = "chainnode-trace 2\n# of a test\nc=5 u=3 r=1@2 w=9 h=superset\n# end\n";
    let trace = Trace::decode(text).expect("a good trace");
    assert_eq!((trace.transactions.len(), trace.gas_used()), (1, 3));
    let wrong = Trace::decode(&(text.to_owned() + "c=x\n")).unwrap_err();
    assert_eq!(wrong.to_string(), "trace line 5: `x` is no 64-bit number");
}

#[test]
fn what_breaks_a_rule_is_refused_by_line_and_rule() {
    let header = [
        ("", "the first line is `chainnode-trace 2`"),
        ("chainnode-trace two", "the first line is"),
        (
            "chainnode-trace 1",
            "version 1 is not known, this program reads version 2",
        ),
        (
            "chainnode-trace 3",
            "version 3 is not known, this program reads version 2",
        ),
        ("c=1", "the first line is"),
    ];
    for (line, rule) in header {
        let wrong = Trace::decode(&format!("{line}\nc=1\n")).unwrap_err();
        assert_eq!(wrong.line, 1, "{line}");
        assert!(wrong.reason.contains(rule), "{line}: {wrong}");
    }
    let lines = [
        ("", "`` has no `=`"),
        ("w=1", "has a cost"),
        ("c=1 c=2", "`c` comes twice"),
        ("c=1  w=1", "`` has no `=`"),
        ("c=-1", "`-1` is no 64-bit number"),
        ("c=+1", "`+1` is no 64-bit number"),
        ("c=18446744073709551616", "is no 64-bit number"),
        ("c=3600000000001", "at most 3600000000000 ns"),
        ("c=1 v=3600000000001", "at most 3600000000000 ns"),
        ("c=9 r=1", "`1` has no `@`"),
        ("c=9 r=1@2,", "`` has no `@`"),
        ("c=9 r=1@10", "at most `c`"),
        ("c=9 r=1@5,2@4", "order of their offsets"),
        ("c=9 g=3-5", "`3-5` has no `@`"),
        ("c=9 g=5-3@1", "ends before it starts"),
        ("c=9 g=1-2@5,1-2@4", "order of their offsets"),
        ("c=9 h=sure", "`sure` is no class of hints"),
        ("c=9 hr=1", "need a class"),
        ("c=9 h=complete hk=0", "`hk` can only be 1"),
        ("c=9 x=1", "no field is called `x`"),
        ("c=9\r", "`9\r` is no 64-bit number"),
    ];
    for (line, rule) in lines {
        let wrong = Trace::decode(&format!("chainnode-trace 2\nc=1\n{line}\n")).unwrap_err();
        assert_eq!(wrong.line, 3, "{line}: {wrong}");
        assert!(wrong.reason.contains(rule), "{line}: {wrong}");
    }
}

#[test]
fn damaged_text_is_refused_or_read_as_something_that_can_be_written() {
    let mut random = Random(11);
    let mut read = 0;
    for _ in 0..3_000 {
        let mut text = random_trace(&mut random).encode().into_bytes();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len() as u64) as usize;
            let with = b"0129 =,@-cruvgwdh#\n\xff"[random.below(20) as usize];
            match random.below(3) {
                0 => text[at] = with,
                1 => text.insert(at, with),
                _ => drop(text.remove(at)),
            }
        }
        let Ok(text) = String::from_utf8(text) else {
            continue;
        };
        if let Ok(trace) = Trace::decode(&text) {
            read += 1;
            assert_eq!(
                Trace::decode(&trace.encode()).as_ref(),
                Ok(&trace),
                "{text}"
            );
            let found = simulate(&trace, 3, &Costs::nominal());
            assert!(found.counters.executions as usize >= trace.transactions.len());
        }
    }
    assert!(read > 100, "{read}");
}

#[test]
fn a_late_read_meets_what_an_early_one_misses() {
    // Without hints, both start together; the first one's write is there after 10 us.
    let chain = |at_ns| {
        let write = TraceTransaction {
            cost_ns: 10_000,
            writes: vec![1],
            ..TraceTransaction::default()
        };
        let mut read = TraceTransaction {
            cost_ns: 40_000,
            reads: vec![(1, at_ns)],
            ..TraceTransaction::default()
        };
        let keyed = simulate(
            &Trace {
                transactions: vec![write.clone(), read.clone()],
            },
            2,
            &Costs::best(),
        );
        read.reads.clear();
        read.ranges.push(Scan {
            start: 0,
            end: 5,
            at_ns,
        });
        let ranged = simulate(
            &Trace {
                transactions: vec![write, read],
            },
            2,
            &Costs::best(),
        );
        assert_eq!(keyed.counters.executions, ranged.counters.executions);
        keyed
    };
    let (early, late) = (chain(0), chain(30_000));
    assert_eq!(
        (early.counters.executions, late.counters.executions),
        (3, 2)
    );
    assert!(
        late.makespan_ns + 5_000 < early.makespan_ns,
        "{late:?} {early:?}"
    );
}
