//! The order in which a panel's columns are read: a few side by side, in long runs.

use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};

use super::{Packing, Side, Source, Span, TILE};

/// Columns read side by side: enough to hide the running sums' traffic (4 give 70 % of a pure read
/// loop, 8 give 90 %, 14 no more), few enough for the prefetcher.
pub(super) const GROUP: usize = 8;
/// Words of a packed piece.
pub(super) const PACKED: usize = Packing::Six.piece_words();
// Words of a line of the cache.
const LINE: usize = 8;

/// Asks for one piece, which may lie behind the end of its plane.
#[inline]
pub(super) fn prefetch(start: *const u64, words: usize) {
    for at in (0..words).step_by(LINE) {
        let address = start.wrapping_add(at).cast();
        // SAFETY: every x86-64 processor has SSE, and a prefetch of any address never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address) };
    }
}

/// Columns of one packing at one run of pieces, and where each column's next run begins.
pub(super) struct Group<'a> {
    /// The columns' numbers; fewer than `GROUP` in the last group of a packing.
    pub columns: &'a [usize],
    /// Words of a piece.
    pub words: usize,
    /// The pieces of each column; a group that is not full repeats one.
    pub runs: [&'a [u64]; GROUP],
    /// Where each place's next run begins.
    pub next: [*const u64; GROUP],
    /// Number of the run in the panel.
    pub run: usize,
    /// Whether this is the panel's first group.
    pub is_first: bool,
    /// Whether this is the group's last run.
    pub is_last_run: bool,
}

impl Group<'_> {
    /// What each place takes of a row with one entry a column; 0 where a column is repeated.
    pub(super) fn pick<T: Copy + Default>(&self, row: &[T]) -> [T; GROUP] {
        std::array::from_fn(|i| self.columns.get(i).map_or(T::default(), |c| row[*c]))
    }
}

// Groups of one packing each.
fn members(planes: &[Source<'_>]) -> Vec<Vec<usize>> {
    let of = |words: usize| -> Vec<usize> {
        let same = |column: &usize| planes[*column].piece_words() == words;
        (0..planes.len()).filter(same).collect()
    };
    [TILE, PACKED]
        .into_iter()
        .flat_map(|words| {
            of(words)
                .chunks(GROUP)
                .map(<[usize]>::to_vec)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Calls `kernel` for every group and run of a panel, a group's runs one after another.
pub(super) fn for_each_group(side: &Side<'_>, spans: &[Span], mut kernel: impl FnMut(&Group<'_>)) {
    let planes = &side.planes;
    let count = spans[0].count;
    let stride = spans
        .get(1)
        .map_or(count, |span| span.piece - spans[0].piece);
    let groups = members(planes);
    let at = |columns: &[usize], i: usize| planes[columns[i.min(columns.len() - 1)]];
    for (number, columns) in groups.iter().enumerate() {
        let words = planes[columns[0]].piece_words();
        for (run, span) in spans.iter().enumerate() {
            kernel(&Group {
                columns,
                words,
                runs: std::array::from_fn(|i| at(columns, i).run(span.piece, count)),
                next: std::array::from_fn(|i| match groups.get(number + 1) {
                    Some(later) => at(later, i).address(span.piece),
                    None => at(&groups[0], i).address(span.piece + spans.len() * stride),
                }),
                run,
                is_first: number == 0,
                is_last_run: run + 1 == spans.len(),
            });
        }
    }
}
