//! What is known of a run before it is executed, and which engine follows from it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use chain_state::{
    keys, share_out, stretches, Alone, BlockOverlay, SharedState, StateGuard, TxView, Workers,
};

use super::{Parallel, Strategy, RUN_MIN};
use crate::block::{Item, Rules};
use crate::foretold::{between, cut, hint, hints, Called, Hints, Piece};
use crate::gate::{samples, Engine, Forecast, DRAWN_PER_WORKER_MIN};
use crate::hints::Templates;
use crate::parts::Parts;
use crate::scheduler::Hint;

/// Below this a worker costs more than its share of the hints.
const HINTS_PER_WORKER_MIN: usize = 64;

/// A run that is about to be executed.
struct Ahead<'a> {
    rules: &'a Rules,
    items: &'a Parts<Item>,
    /// Where it begins in the block.
    first: usize,
    /// The state for others than this thread, where the run sees nothing else.
    beside: Option<&'a SharedState>,
    workers: &'a dyn Workers,
}

impl<'a> Ahead<'a> {
    fn items_of(&self, range: Range<usize>) -> impl Iterator<Item = &'a Item> + Clone + use<'a> {
        self.items
            .range(self.first + range.start..self.first + range.end)
    }
}

impl Parallel {
    /// The engine for a run, and what is known of its transactions.
    pub(crate) fn choose(
        &mut self,
        rules: &Rules,
        items: &Parts<Item>,
        run: Range<usize>,
        view: &TxView<StateGuard>,
        beside: Option<&SharedState>,
    ) -> (Engine, Hints) {
        if run.len() < RUN_MIN {
            return (Engine::Serial, Hints::default());
        }
        self.enter("hints");
        let workers = self.workers(run.len());
        let ahead = Ahead {
            rules,
            items,
            first: run.start,
            beside,
            workers: &*workers,
        };
        let drawn = samples(run.len());
        let hints = self.foretell(&ahead, view, &drawn, DRAWN_PER_WORKER_MIN, Piece::outlined);
        let sampled =
            Forecast::sampled(hints.outlines(), run.len(), self.cost_ns, &mut self.writers);
        let mut forecast = self.completed(sampled);
        self.foretold = forecast.complete_share >= 1.0;
        let gated = self.strategy == Strategy::Gate;
        let mut engine = match self.strategy {
            Strategy::Always(engine) => engine,
            Strategy::Gate => forecast.engine(self.gate_workers()),
        };
        if engine == Engine::Blind {
            self.forecast = forecast;
            return (engine, hints);
        }
        let rest = between(&drawn, run.len());
        let rest = self.foretell(&ahead, view, &rest, HINTS_PER_WORKER_MIN, |piece| piece);
        let hints = hints.with(rest);
        if gated && engine == Engine::Serial {
            let cost_ns = self.cost_ns;
            forecast = self.completed(Forecast::from_hints(hints.iter(), |_| cost_ns));
            engine = forecast.engine(self.gate_workers());
        }
        self.forecast = forecast;
        (engine, hints)
    }

    /// What is known of some of a run's transactions.
    fn foretell(
        &mut self,
        ahead: &Ahead<'_>,
        view: &TxView<StateGuard>,
        ranges: &[Range<usize>],
        least: usize,
        then: fn(Piece) -> Piece,
    ) -> Hints {
        let pieces = cut(ranges, ahead.workers.count(), least);
        let templates = self.templates_of(ahead, view, &pieces);
        let observed = &self.observed;
        let piece = |range: Range<usize>, view: &TxView<StateGuard>| {
            let (start, items) = (range.start, ahead.items_of(range));
            let hints = hints(ahead.rules, items, view, &templates, observed);
            then(Piece::new(start, hints))
        };
        let Some(state) = ahead.beside else {
            let pieces = pieces.into_iter();
            return pieces.map(|range| piece(range, view)).collect();
        };
        let made = share_out(ahead.workers, pieces, |range| {
            let view = TxView::new(state.read_arc(), BlockOverlay::default());
            piece(range, &view)
        });
        made.into_iter().collect()
    }

    /// What hints leave out, the last block may tell.
    fn completed(&self, mut forecast: Forecast) -> Forecast {
        if forecast.complete_share < 1.0 {
            let known = (forecast.work_ns as f64 * self.path_share) as u64;
            forecast.path_ns = forecast.path_ns.max(known);
        }
        forecast
    }

    /// What is known beforehand of a block's invocations; nothing of what changes members or code.
    pub(crate) fn hints(
        &mut self,
        rules: &Rules,
        items: &Parts<Item>,
        view: &TxView<StateGuard>,
    ) -> Vec<Hint> {
        let ahead = Ahead {
            rules,
            items,
            first: 0,
            beside: None,
            workers: &Alone,
        };
        let templates = self.templates_of(&ahead, view, &stretches(items.len(), 1));
        let known = |item: &Item| match item.is_barrier() {
            true => Hint::default(),
            false => hint(rules, item, view, &templates, &self.observed).unwrap_or_default(),
        };
        items.iter().map(known).collect()
    }

    /// The templates of every contract that these transactions call; no transaction of the run
    /// changes them.
    fn templates_of<'a>(
        &mut self,
        ahead: &Ahead<'a>,
        view: &TxView<StateGuard>,
        pieces: &[Range<usize>],
    ) -> Called<'a> {
        let called = share_out(ahead.workers, pieces.to_vec(), |piece| {
            let items = ahead.items_of(piece).flat_map(|item| &item.transaction);
            let mut called: HashSet<&str> = HashSet::new();
            let mut last = None;
            for contract in items.map(|transaction| &transaction.payload.contract[..]) {
                if last != Some(contract) {
                    called.insert(contract);
                    last = Some(contract);
                }
            }
            called
        });
        let mut found = HashMap::new();
        for contract in called.into_iter().flatten() {
            if !found.contains_key(contract) {
                found.insert(contract, self.templates(contract, view));
            }
        }
        found
    }

    /// The templates of a contract, parsed when its record changes.
    fn templates(&mut self, contract: &str, view: &TxView<StateGuard>) -> Option<Arc<Templates>> {
        if contract.len() > usize::from(u8::MAX) {
            return None;
        }
        let record = view.peek(&keys::contract(contract))?;
        if let Some((known, templates)) = self.templates.get(contract) {
            if *known == *record {
                return Some(Arc::clone(templates));
            }
        }
        let abi = view.peek(&keys::abi(contract))?;
        let templates = Arc::new(Templates::parse(&abi));
        let entry = (record.into_owned(), Arc::clone(&templates));
        self.templates.insert(contract.to_owned(), entry);
        Some(templates)
    }
}
