//! Additions that fit whatever else the block adds to their number: nobody looks at them in order.
//!
//! After O'Neil's escrow method (ACM TODS 11(4), 1986): a number lies between what it was less all
//! that may lower it and what it was with all that may raise it. An addition that fits at both
//! ends fits in every order, so that it is final as soon as everything before it is.

use super::slots::Content;
use super::Guess;
use crate::number::Form;

/// What is known of a number to which the block's transactions add.
#[derive(Debug, Default)]
pub(super) enum Account {
    /// Nobody has published anything.
    #[default]
    Untouched,
    /// Somebody replaced the value before anybody added to it: every addition is settled in order.
    Replaced,
    /// Boxed, for few keys are added to.
    Added(Box<Escrow>),
}

#[derive(Debug)]
pub(super) struct Escrow {
    form: Form,
    /// The number before the block.
    base: i128,
    /// All that was published to lower it, and all to raise it.
    down: i128,
    up: i128,
    /// Where the number has to stay for the additions let through.
    low: i128,
    high: i128,
    /// Nothing is let through any more.
    closed: bool,
}

impl Account {
    /// Count what a transaction does now instead of what it did before.
    ///
    /// False when, because of that, nothing let through before is certain any longer.
    pub(super) fn count(&mut self, old: &Content, new: &Content, guess: Option<&Guess>) -> bool {
        if let (Self::Untouched, Some(guess)) = (&self, guess) {
            *self = Self::Added(Box::new(Escrow::new(guess)));
        }
        match self {
            Self::Untouched if *new != Content::Empty => *self = Self::Replaced,
            Self::Untouched | Self::Replaced => {}
            Self::Added(escrow) if escrow.closed => {}
            Self::Added(escrow) => {
                if let Content::Add(delta, _) = old {
                    let delta = delta.get();
                    escrow.down -= delta.min(0);
                    escrow.up -= delta.max(0);
                }
                escrow.closed = !escrow.holds_with(new, guess);
                return !escrow.closed;
            }
        }
        true
    }

    /// Whether an addition that was counted fits whatever else is added; then this stays so, or
    /// [`Account::count`] says that it does not.
    pub(super) fn lets_through(&mut self, guess: &Guess) -> bool {
        let Self::Added(escrow) = self else {
            return false;
        };
        if escrow.closed || !escrow.lies_within(guess.room.low, guess.room.high) {
            return false;
        }
        escrow.low = escrow.low.max(guess.room.low);
        escrow.high = escrow.high.min(guess.room.high);
        true
    }

    /// How the number is stored and what it was before the block, where somebody added to it.
    pub(super) fn base(&self) -> Option<(Form, i128)> {
        match self {
            Self::Added(escrow) => Some((escrow.form, escrow.base)),
            _ => None,
        }
    }
}

impl Escrow {
    fn new(guess: &Guess) -> Self {
        Self {
            form: guess.room.form,
            base: guess.under,
            down: 0,
            up: 0,
            low: i128::MIN,
            high: i128::MAX,
            closed: false,
        }
    }

    /// Whether the number stays where it has to be, with this as well.
    fn holds_with(&mut self, new: &Content, guess: Option<&Guess>) -> bool {
        let delta = match (new, guess) {
            (Content::Empty, None) => return true,
            (Content::Empty, Some(_)) => 0,
            (Content::Add(delta, form), Some(_)) if *form == self.form => delta.get(),
            _ => return false,
        };
        let same = guess.is_some_and(|one| (one.room.form, one.under) == (self.form, self.base));
        let (down, up) = (
            self.down.checked_add(delta.min(0)),
            self.up.checked_add(delta.max(0)),
        );
        let (true, Some(down), Some(up)) = (same, down, up) else {
            return false;
        };
        (self.down, self.up) = (down, up);
        self.lies_within(self.low, self.high)
    }

    /// Whether the number lies between these whichever of the additions lie below.
    fn lies_within(&self, low: i128, high: i128) -> bool {
        let least = self.base.checked_add(self.down);
        let most = self.base.checked_add(self.up);
        least.is_some_and(|least| low <= least) && most.is_some_and(|most| most <= high)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::slots::{Delta, Slots};
    use super::*;
    use crate::number::Bounds;
    use crate::versions::Found;

    const UNDER: i128 = 50;

    /// A small stream of numbers below a bound.
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, bound: i128) -> i128 {
            let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = next.wrapping_add(1_442_695_040_888_963_407);
            i128::from(self.0 >> 33) % bound
        }
    }

    fn guess(delta: i128, low: i128, high: i128) -> Guess {
        Guess {
            room: Bounds::new(Form::COUNTER, low, high).room(delta),
            under: UNDER,
        }
    }

    #[test]
    fn what_is_let_through_fits_on_the_exact_value_whatever_is_published_after_it() {
        let (mut through, mut taken_back) = (0, 0);
        for seed in 0..3_000 {
            let mut draw = Draw(seed);
            let mut slots = Slots::default();
            let mut certain = BTreeSet::new();
            let mut latest: BTreeMap<u32, (i128, Option<Guess>)> = BTreeMap::new();
            let high = 60 + draw.below(300);
            for _ in 0..80 {
                let tx = draw.below(40) as u32;
                let delta = draw.below(30) - 8;
                // Some transactions replace the value or leave the key alone.
                let (content, guess) = match draw.below(60) {
                    0 => (Content::Put(Form::COUNTER.encode(5)), None),
                    1..4 => (Content::Empty, None),
                    4..7 => (Content::Empty, Some(guess(delta, 0, high))),
                    _ => (
                        Content::Add(Delta::new(delta), Form::COUNTER),
                        Some(guess(delta, 0, high)),
                    ),
                };
                let put = matches!(content, Content::Put(_));
                let added = matches!(content, Content::Add(..));
                certain.remove(&tx);
                let set = slots.set(tx, content, guess, 0, &mut |tx| {
                    taken_back += u32::from(certain.remove(&tx));
                });
                if guess.is_some() && !set.pending {
                    through += 1;
                    certain.insert(tx);
                }
                assert!(!put || certain.is_empty());
                latest.insert(tx, (if added { delta } else { 0 }, guess));
                for tx in &certain {
                    let below = latest.range(..tx).map(|(_, (delta, _))| delta);
                    let exact = UNDER + below.sum::<i128>();
                    let guess = latest[tx].1.expect("let through with a guess");
                    assert!(
                        guess.room.low <= exact && exact <= guess.room.high,
                        "seed {seed}"
                    );
                }
            }
        }
        assert!(
            through > 10_000 && taken_back > 1_000,
            "{through}, {taken_back}"
        );
    }

    #[test]
    fn a_sum_left_for_the_next_reader_is_the_sum() {
        let mut slots = Slots::default();
        let free = guess(1, i128::MIN, i128::MAX);
        for tx in 0..1_000 {
            let content = Content::Add(Delta::new(1), Form::COUNTER);
            let set = slots.set(tx, content, Some(free), 0, &mut |_| {
                unreachable!("nothing is bounded")
            });
            assert!(!set.pending);
        }
        let seen = |found| match found {
            Found::Value(value) => Form::COUNTER.decode(Some(&value)),
            Found::Below(added) => Ok(UNDER + added.map_or(0, |(sum, _)| sum)),
            other => unreachable!("{other:?}"),
        };
        for final_below in [0, 300, 301, 700, 1_000] {
            for tx in [299, 300, 365, 700, 1_000] {
                assert_eq!(
                    seen(slots.look(tx, final_below).0),
                    Ok(UNDER + i128::from(tx))
                );
            }
        }
        let sums = slots
            .slots
            .iter()
            .filter(|slot| matches!(slot.content, Content::Put(_)));
        assert!((1..=4).contains(&sums.count()));
        assert_eq!(slots.sum_of(1_000), None, "the last one holds it already");
    }
}
