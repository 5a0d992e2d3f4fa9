//! Random blocks against the plain serial engine.

use chain_state::State;

use crate::scheduler::HintClass;
use crate::synthetic::{Choice, SyntheticBlock};
use crate::trace::{Scan, Trace, TraceTransaction};

/// A splitmix64 stream (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound, as good as even for small ones.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// A block of any contention, with deltas, ranges, and hints that are right, wrong or missing.
pub fn random_trace(random: &mut Random) -> Trace {
    let keys = [1, 2, 4, 16, 64, 1024][random.below(6) as usize];
    let ranges = random.below(3) == 0;
    let hints = random.below(4);
    let count = 1 + random.below(120);
    let transactions = (0..count).map(|_| random_transaction(random, keys, ranges, hints));
    Trace {
        transactions: transactions.collect(),
    }
}

fn random_transaction(
    random: &mut Random,
    keys: u64,
    ranges: bool,
    hints: u64,
) -> TraceTransaction {
    let mut one = TraceTransaction::default();
    for _ in 0..random.below(4) {
        one.reads.push((random.below(keys), 0));
    }
    for _ in 0..random.below(3) {
        one.writes.push(random.below(keys));
    }
    for _ in 0..[0, 0, 0, 1, 1, 2][random.below(6) as usize] {
        one.deltas.push(random.below(keys));
    }
    if ranges && random.below(8) == 0 {
        let start = random.below(keys);
        let end = start + random.below(8);
        one.ranges.push(Scan {
            start,
            end,
            at_ns: 0,
        });
    }
    one.cost_ns = random.below(3) * 300;
    one.hint_class = match hints {
        0 => HintClass::None,
        1 => HintClass::Predicted,
        _ => HintClass::Complete,
    };
    if hints == 3 && random.below(3) == 0 {
        one.hint_keys = Some([(); 3].map(|()| vec![random.below(keys)]));
    }
    one
}

/// A state in which some keys hold no counter and some hold one at the edge of its range.
pub fn random_state(random: &mut Random) -> State {
    let mut state = State::default();
    for key in 0..random.below(40) {
        let value = match random.below(4) {
            0 => vec![1, 2, 3],
            1 => i128::MAX.to_be_bytes().to_vec(),
            _ => 7i128.to_be_bytes().to_vec(),
        };
        state.apply(crate::trace::key_bytes(key).into(), Some(value));
    }
    state
}

/// Execute the block of a seed serially and in parallel, and say where they differ.
///
/// Transactions fail, write and delete by what they read, so that one wrong read shows.
///
/// # Errors
/// The seed, the threads and the engine that gave another result.
pub fn compare(seed: u64, threads: usize) -> Result<(), String> {
    let mut random = Random(seed);
    let trace = random_trace(&mut random);
    let state = random_state(&mut random);
    let block = SyntheticBlock::new(trace, state, threads, true);
    let serial = block.run(Choice::Serial);
    for choice in [Choice::HintDag, Choice::Stm, Choice::Blind] {
        let parallel = block.run(choice);
        if (&parallel.digests, &parallel.writes) != (&serial.digests, &serial.writes) {
            return Err(format!("seed {seed}, {threads} threads, {choice:?}"));
        }
    }
    Ok(())
}
