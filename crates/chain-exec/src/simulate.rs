//! The scheduler in virtual time: a trace on any number of virtual workers.
//!
//! The state machine and the memory are the very code the threads run; only time is made up. An
//! execution takes its recorded cost, its reads happen at their offsets, so that stale reads,
//! waits and aborts come from the trace's structure. Each operation on shared data costs what
//! [`Costs`] says, and a cache line that many want is a server: one after another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use chain_state::versions::{Effect, Found, Memory, Version};
use chain_state::{BlockOverlay, Bounds, Write};

use crate::around::Around;
use crate::costs::Costs;
use crate::gate::{Engine, Forecast};
use crate::scheduler::{Claim, Counters, Hint, Lane, Scheduler, Settings, Task, Worker, RUN_MAX};
use crate::trace::{key_bytes, Trace, TraceTransaction};

/// What a simulated block took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Makespan {
    /// From the first preparation to the last collected write.
    pub makespan_ns: u64,
    /// Of it, setting up before the workers begin, and what follows the last final transaction.
    pub around_ns: u64,
    /// Of it, what one worker does while the others wait.
    pub serial_part_ns: u64,
    /// Plain serial execution of the same trace, signature checks included.
    pub serial_ns: u64,
    /// `serial_ns / makespan_ns`.
    pub speedup: f64,
    /// Completed executions, waits, aborts and executions on the lane.
    pub counters: Counters,
    /// Time the workers spent executing, wasted work included.
    pub busy_ns: u64,
}

/// How a trace is run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The engine; the serial one stands for whichever of the others hints allow.
    pub engine: Engine,
    /// Whether it was chosen for this block, and the choice takes its time.
    pub is_chosen: bool,
    /// What suits it.
    pub settings: Settings,
}

impl Manner {
    /// One engine with the settings that suit it and so many workers.
    pub fn of(engine: Engine, trace: &Trace, workers: usize) -> Self {
        let mean_ns = trace.work_ns() / trace.transactions.len().max(1) as u64;
        let wait = engine == Engine::HintDag;
        Self {
            engine,
            is_chosen: false,
            settings: Settings::for_workers(workers, mean_ns, wait),
        }
    }

    /// The parallel engine that the gate chooses, or would if the block were worth it.
    pub fn chosen(trace: &Trace, workers: usize) -> Self {
        let one = &trace.transactions;
        let hints: Vec<Hint> = one.iter().map(TraceTransaction::hint).collect();
        let costs_ns: Vec<u64> = one.iter().map(|one| one.cost_ns).collect();
        let forecast = Forecast::of_block(hints.iter(), &costs_ns, workers);
        Self {
            // One worker is the serial engine, whatever the block.
            is_chosen: workers > 1,
            ..Self::of(forecast.parallel_engine(), trace, workers)
        }
    }
}

/// Run a trace on virtual workers as the gate would have it run in parallel.
pub fn simulate(trace: &Trace, workers: usize, costs: &Costs) -> Makespan {
    simulate_with(trace, workers, costs, Manner::chosen(trace, workers))
}

/// Run a trace on virtual workers.
///
/// # Panics
/// When `workers` is 0.
pub fn simulate_with(trace: &Trace, workers: usize, costs: &Costs, manner: Manner) -> Makespan {
    assert!(workers > 0, "somebody has to work");
    let one = &trace.transactions;
    let mut hints: Vec<Hint> = one.iter().map(TraceTransaction::hint).collect();
    let hinted = |hints: &[Hint]| {
        let keys = |hint: &Hint| hint.reads.len() + hint.writes.len() + hint.deltas.len();
        hints.iter().map(keys).sum::<usize>()
    };
    let survey_ns = if manner.is_chosen {
        let seen = hinted(&hints) as f64 * Forecast::share_seen(hints.len());
        costs.slowed(workers, (costs.survey_ns as f64 * seen) as u64)
    } else {
        0
    };
    if manner.engine == Engine::Blind {
        hints.clear();
    }
    let memory = Arc::new(Memory::new(BlockOverlay::default(), workers));
    let scheduler = Scheduler::new(memory, trace.transactions.len(), manner.settings);
    scheduler.prepare(&hints, 0, 1);
    let slowdown = costs.slowdown(workers);
    let hinted = hinted(&hints);
    // Every worker walks all hints, a nanosecond each, and prepares those of its shards.
    let prepare = costs.prepare_ns * hinted as u64 / workers as u64 + hinted as u64;
    let start_ns = (prepare as f64 * slowdown) as u64 + survey_ns;
    let mut simulation = Simulation {
        trace,
        costs,
        slowdown,
        scheduler,
        looks: trace.transactions.iter().map(looks).collect(),
        lines: HashMap::new(),
        verified: vec![false; trace.transactions.len()],
        unsettled: vec![Vec::new(); trace.transactions.len()],
        busy_ns: 0,
    };
    let (end, counters) = simulation.run(workers, start_ns);
    let around = Around::of(trace, workers, costs);
    let makespan_ns = end + around.start_ns + around.begin_ns + around.after_ns;
    let verify: u64 = trace.transactions.iter().map(|one| one.verify_ns).sum();
    let serial_ns = trace.work_ns() + verify;
    Makespan {
        makespan_ns,
        around_ns: around.begin_ns + around.after_ns,
        serial_part_ns: around.serial_ns + survey_ns,
        serial_ns,
        speedup: serial_ns as f64 / makespan_ns.max(1) as f64,
        counters,
        busy_ns: simulation.busy_ns,
    }
}

/// What an execution looks at below itself.
#[derive(Clone, Copy, Debug)]
enum Look {
    Key(u64),
    Range(u64, u64),
}

/// What an execution looks at, by offset; ranges first where the offsets are equal.
fn looks(one: &TraceTransaction) -> Vec<(u64, Look)> {
    let ranges = one.ranges.iter();
    let ranges = ranges.map(|scan| (scan.at_ns, Look::Range(scan.start, scan.end)));
    let reads = one.reads.iter().map(|(key, at)| (*at, Look::Key(*key)));
    let mut looks: Vec<(u64, Look)> = ranges.chain(reads).collect();
    looks.sort_by_key(|(at, _)| *at);
    looks
}

/// Cache lines that several workers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Next,
    Ready,
    Frontier,
    Key(u64),
}

/// What a virtual worker does at its next event.
#[derive(Clone, Copy, Debug)]
enum Step {
    Climb,
    Ask,
    Read(Claim, usize),
    Add(Claim),
    Publish(Claim),
    Finish(Claim),
    Advance,
    Idle,
}

struct Simulation<'a> {
    trace: &'a Trace,
    costs: &'a Costs,
    slowdown: f64,
    scheduler: Scheduler<()>,
    looks: Vec<Vec<(u64, Look)>>,
    lines: HashMap<Line, u64>,
    verified: Vec<bool>,
    /// Keys each transaction added to on a guess.
    unsettled: Vec<Vec<u64>>,
    busy_ns: u64,
}

impl Simulation<'_> {
    fn run(&mut self, count: usize, start: u64) -> (u64, Counters) {
        let mut workers: Vec<(Worker, Step)> =
            (0..count).map(|_| (Worker::default(), Step::Ask)).collect();
        let mut events: BinaryHeap<Reverse<(u64, usize)>> =
            (1..count).map(|worker| Reverse((start, worker))).collect();
        if count > 1 && self.scheduler.follows_hints() {
            workers[0].1 = Step::Climb;
            let climb = self.costs.climb_ns * self.trace.transactions.len() as u64;
            events.push(Reverse((start + self.slowed(climb), 0)));
        } else {
            events.push(Reverse((start, 0)));
        }
        let mut idle: Vec<usize> = Vec::new();
        let mut end = start;
        while let Some(Reverse((now, index))) = events.pop() {
            end = end.max(now);
            let (worker, step) = &mut workers[index];
            let (at, next) = self.step(worker, *step, now);
            *step = next;
            if matches!(next, Step::Idle) {
                idle.push(index);
            } else {
                events.push(Reverse((at, index)));
            }
            // A waker costs its sleeper a line.
            let unfinished = self.scheduler.frontier() < self.scheduler.count();
            if !idle.is_empty() && unfinished && self.scheduler.has_work() {
                let sleeper = idle.pop().expect("somebody is idle");
                workers[sleeper].1 = Step::Ask;
                events.push(Reverse((now + self.costs.line_ns, sleeper)));
            }
        }
        let mut counters = Counters::default();
        for (worker, _) in &workers {
            counters += worker.counters;
        }
        (end, counters)
    }

    /// When a line is this worker's, having waited for those before it.
    fn line(&mut self, line: Line, now: u64) -> u64 {
        let free = self.lines.entry(line).or_insert(0);
        *free = now.max(*free) + self.costs.line_ns;
        *free
    }

    fn slowed(&self, nanoseconds: u64) -> u64 {
        (nanoseconds as f64 * self.slowdown) as u64
    }

    fn transaction(&self, claim: Claim) -> &TraceTransaction {
        &self.trace.transactions[claim.version.tx as usize]
    }

    fn step(&mut self, worker: &mut Worker, step: Step, now: u64) -> (u64, Step) {
        match step {
            Step::Climb => self.climb(now),
            Step::Ask => self.ask(worker, now),
            Step::Read(claim, next) => self.read(worker, claim, next, now),
            Step::Add(claim) => self.add(claim, now),
            Step::Publish(claim) => self.publish(claim, now),
            Step::Finish(claim) => self.finish(worker, claim, now),
            Step::Advance => self.advance(worker, now),
            Step::Idle => (now, Step::Idle),
        }
    }

    /// One worker learns the heights of the hinted chains while the others begin.
    fn climb(&mut self, now: u64) -> (u64, Step) {
        self.scheduler.climb();
        (now, Step::Ask)
    }

    fn ask(&mut self, worker: &mut Worker, now: u64) -> (u64, Step) {
        let (queued, drawing) = (self.scheduler.queued(), worker.must_draw());
        match self.scheduler.next_task(worker) {
            Task::Execute(claim) => {
                let mut at = now;
                if self.scheduler.queued() < queued {
                    at = self.line(Line::Ready, at);
                } else if drawing {
                    at = self.line(Line::Next, at);
                }
                self.begin(claim, at)
            }
            Task::Commit => (self.line(Line::Frontier, now), Step::Advance),
            Task::Idle | Task::Done => (now, Step::Idle),
        }
    }

    /// Start an execution: the signature first, once, then what it looks at.
    fn begin(&mut self, claim: Claim, now: u64) -> (u64, Step) {
        let verified = &mut self.verified[claim.version.tx as usize];
        let first = !std::mem::replace(verified, true);
        let verify = if first {
            self.transaction(claim).verify_ns
        } else {
            0
        };
        let at = now + self.slowed(self.costs.task_ns + verify);
        self.busy_ns += at - now;
        self.read(&mut Worker::default(), claim, usize::MAX, at)
    }

    /// `next` counts the looks taken; `usize::MAX` stands for the start.
    fn read(&mut self, worker: &mut Worker, claim: Claim, next: usize, now: u64) -> (u64, Step) {
        let total = self.transaction(claim).cost_ns;
        let looks = &self.looks[claim.version.tx as usize];
        let offset = |index: usize| looks.get(index).map_or(total, |(at, _)| (*at).min(total));
        let (look, count) = (looks.get(next).map(|(_, look)| *look), looks.len());
        if next == usize::MAX {
            let gap = self.slowed(offset(0));
            self.busy_ns += gap;
            return (now + gap, Step::Read(claim, 0));
        }
        let gap = self.slowed(offset(next + 1).saturating_sub(offset(next)));
        let mut at = now;
        match look {
            Some(Look::Range(start, end)) => match self.scan(claim, (start, end)) {
                Ok(rows) => at += self.slowed(self.costs.read_ns * (1 + rows)),
                Err(on) => return self.blocked(worker, claim, on, at),
            },
            Some(Look::Key(key)) => {
                let found = self.look(claim, &key_bytes(key));
                at = self.line(Line::Key(key), at) + self.slowed(self.costs.read_ns);
                if let Found::Blocked(on) = found {
                    return self.blocked(worker, claim, on, at);
                }
            }
            None => {}
        }
        self.busy_ns += gap + (at - now);
        let step = if next + 1 < count {
            Step::Read(claim, next + 1)
        } else {
            Step::Add(claim)
        };
        (at + gap, step)
    }

    fn blocked(&mut self, worker: &mut Worker, claim: Claim, on: u32, now: u64) -> (u64, Step) {
        self.scheduler.block(worker, claim, on);
        (now, Step::Ask)
    }

    fn look(&self, claim: Claim, key: &[u8]) -> Found {
        self.scheduler
            .memory()
            .read(claim.version, key, !claim.exact)
    }

    fn scan(&self, claim: Claim, (start, end): (u64, u64)) -> Result<u64, u32> {
        let memory = self.scheduler.memory();
        let (mut start, end) = (key_bytes(start).to_vec(), key_bytes(end));
        if !claim.exact {
            memory.depend_on_range(claim.version, &start, &end);
        }
        let mut rows = 0;
        while let Some(key) = memory.next_key(&start, Some(&end), false) {
            if let Found::Blocked(on) = self.look(claim, &key) {
                return Err(on);
            }
            rows += 1;
            start = key;
            start.push(0);
        }
        Ok(rows)
    }

    /// Whether few write the keys it adds to is seen under their locks.
    fn add(&mut self, claim: Claim, now: u64) -> (u64, Step) {
        let deltas = &self.trace.transactions[claim.version.tx as usize].deltas;
        let look_ns = self.slowed(self.costs.read_ns);
        let at = deltas
            .iter()
            .fold(now, |at, key| self.line(Line::Key(*key), at) + look_ns);
        self.busy_ns += at - now;
        (at, Step::Publish(claim))
    }

    fn publish(&mut self, claim: Claim, now: u64) -> (u64, Step) {
        let one = &self.trace.transactions[claim.version.tx as usize];
        let mut at = now;
        for key in one.writes.iter().chain(&one.deltas) {
            let adds = one.deltas.contains(key) && !self.is_read(claim, *key);
            let cost_ns = [self.costs.write_ns, self.costs.add_ns][usize::from(adds)];
            at = self.line(Line::Key(*key), at) + self.slowed(cost_ns);
        }
        self.busy_ns += at - now;
        (at, Step::Finish(claim))
    }

    /// Whether an addition reads the value below instead of guessing.
    fn is_read(&self, claim: Claim, key: u64) -> bool {
        let memory = self.scheduler.memory();
        let key = key_bytes(key);
        !claim.exact && memory.read_calm(claim.version, &key).is_some()
    }

    fn effects(&mut self, claim: Claim) -> Vec<Effect> {
        let Version { tx, incarnation } = claim.version;
        let one = &self.trace.transactions[tx as usize];
        // As long as a counter: others may add to a key that this one puts.
        let value = (i128::from(tx) << 32 | i128::from(incarnation)).to_be_bytes();
        let put = |key: u64, value: [u8; 16]| {
            Effect::new(key_bytes(key).into(), Write::Put(value.to_vec()))
        };
        let mut effects: Vec<Effect> = one.writes.iter().map(|key| put(*key, value)).collect();
        let (read, guessed): (Vec<u64>, Vec<u64>) = one
            .deltas
            .iter()
            .partition(|key| self.is_read(claim, **key));
        effects.extend(read.into_iter().map(|key| put(key, 1i128.to_be_bytes())));
        let add = |key: &u64| Effect::addition(key_bytes(*key).into(), 1, &Bounds::COUNTER);
        effects.extend(guessed.iter().map(add));
        self.unsettled[tx as usize] = guessed;
        effects
    }

    fn finish(&mut self, worker: &mut Worker, claim: Claim, now: u64) -> (u64, Step) {
        let effects = self.effects(claim);
        if claim.exact {
            self.scheduler
                .finish_exact(worker, claim, effects, (), None);
            // What it adds to is settled at once, if need be.
            return (self.settled(claim.version.tx as usize, now), Step::Advance);
        }
        let mut at = now;
        let queued = self.scheduler.queued();
        self.scheduler.finish(worker, claim, effects, ());
        for _ in queued..self.scheduler.queued() {
            at = self.line(Line::Ready, at);
        }
        (at, Step::Ask)
    }

    fn settled(&mut self, tx: usize, now: u64) -> u64 {
        let mut at = now;
        for key in std::mem::take(&mut self.unsettled[tx]) {
            at = self.line(Line::Key(key), at) + self.slowed(self.costs.delta_ns);
        }
        at
    }

    fn advance(&mut self, worker: &mut Worker, now: u64) -> (u64, Step) {
        let first = self.scheduler.frontier() as usize;
        let run = first..self.trace.transactions.len().min(first + RUN_MAX as usize);
        let pending = run.map(|tx| self.scheduler.is_summed(tx as u32));
        let pending: Vec<bool> = pending.collect();
        match self.scheduler.advance(worker, None) {
            Lane::Committed(count) => {
                let count = u64::from(count);
                let lines = count.div_ceil(8) * self.costs.line_ns;
                let mut at = self.line(Line::Frontier, now);
                at += lines + self.slowed(self.costs.commit_ns * count);
                for (tx, _) in (first..first + count as usize)
                    .zip(pending)
                    .filter(|one| one.1)
                {
                    // Its record lies on another core's line.
                    at = self.settled(tx, at + self.costs.line_ns);
                }
                (at, Step::Advance)
            }
            Lane::Execute(claim) => self.begin(claim, now),
            Lane::Released => (now, Step::Ask),
        }
    }
}
