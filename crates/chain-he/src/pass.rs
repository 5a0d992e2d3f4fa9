//! One pass over groups of tiles: how it is cut, shared among threads and read ahead of.

use crate::kernels::{Span, TILE};
use crate::readahead::{warm, Gate};

/// Tiles that one step of a pass works on.
pub(crate) const GROUP_TILES: usize = 64;

/// Blocks and threads of one pass.
#[derive(Clone, Copy)]
pub struct Pass {
    /// Limbs to read.
    pub limbs: usize,
    /// First block.
    pub first_block: usize,
    /// Number of blocks.
    pub block_count: usize,
    /// Threads.
    pub threads: usize,
}

// Number of a piece in its plane.
pub(crate) fn place(
    tiles: usize,
    polynomial: usize,
    tile: usize,
    blocks: usize,
    block: usize,
) -> usize {
    (polynomial * tiles + tile) * blocks + block
}

// Cuts one group of tiles into panels of at most `most` pieces, in runs that lie together in the
// file; `first` is the group's first piece.
//
// A panel comes with the (tile, block) of each piece, counted from the group and the pass.
pub(crate) fn panels(
    blocks: usize,
    pass: Pass,
    first: usize,
    most: usize,
    mut kernel: impl FnMut(&[Span], &[(usize, usize)]),
) {
    let places: Vec<(usize, usize)> = (0..GROUP_TILES)
        .flat_map(|tile| (0..pass.block_count).map(move |block| (tile, block)))
        .collect();
    let spans = |panel: &[(usize, usize)], count: usize| -> Vec<Span> {
        panel
            .chunks(count)
            .map(|run| Span {
                piece: first + run[0].0 * blocks + run[0].1,
                count,
            })
            .collect()
    };
    if pass.block_count == blocks {
        for panel in places.chunks(most) {
            kernel(&spans(panel, panel.len()), panel);
        }
    } else if pass.block_count <= most {
        let tiles = most / pass.block_count;
        for panel in places.chunks(tiles * pass.block_count) {
            kernel(&spans(panel, pass.block_count), panel);
        }
    } else {
        for run in places.chunks(pass.block_count) {
            for panel in run.chunks(most) {
                kernel(&spans(panel, panel.len()), panel);
            }
        }
    }
}

// Runs `kernel(row, first tile, parts)` for every group of tiles. The parts are equally long rows
// of tiles; a kernel gets its group of each. What `touched` says a group reads is read ahead of it
// when it is not in memory.
pub(crate) fn run<'a>(
    tiles: usize,
    pass: Pass,
    parts: Vec<&mut [u64]>,
    touched: impl Fn(usize, usize) -> Vec<&'a [u8]> + Sync,
    kernel: impl Fn(usize, usize, &mut [&mut [u64]]) + Sync,
) {
    let words = GROUP_TILES * TILE;
    let groups_per_row = tiles / GROUP_TILES;
    let groups = parts.first().map_or(0, |part| part.len() / words);
    let share = groups.div_ceil(pass.threads).max(1);
    let shares = groups.div_ceil(share);
    let at = |group: usize| (group / groups_per_row, group % groups_per_row * GROUP_TILES);
    let runs = |group: usize| {
        let (row, first_tile) = at(group);
        touched(row, first_tile)
    };
    let cold = groups > 0 && !(warm(&runs(0)) && warm(&runs(groups - 1)));
    let gate = cold.then(|| Gate::new(shares));
    // The threads' windows in turn: the first of each, the second of each, ...
    let order: Vec<usize> = (0..share)
        .flat_map(|step| (0..shares).map(move |thread| thread * share + step))
        .filter(|group| *group < groups)
        .collect();
    let work = |first: usize, parts: Vec<&mut [u64]>| {
        let mut rest: Vec<_> = parts
            .into_iter()
            .map(|p| p.chunks_exact_mut(words))
            .collect();
        let mut group = first;
        loop {
            let mut pieces: Vec<&mut [u64]> = rest.iter_mut().filter_map(Iterator::next).collect();
            if pieces.is_empty() {
                return;
            }
            let _turn = gate
                .as_ref()
                .map(|gate| gate.enter(order.iter().position(|g| *g == group).unwrap_or(groups)));
            let (row, first_tile) = at(group);
            kernel(row, first_tile, &mut pieces);
            group += 1;
        }
    };
    if pass.threads == 1 && !cold {
        return work(0, parts);
    }
    let mut rows: Vec<_> = parts
        .into_iter()
        .map(|p| p.chunks_mut(share * words))
        .collect();
    std::thread::scope(|scope| {
        if let Some(gate) = &gate {
            scope.spawn(|| gate.read(order.iter().map(|group| runs(*group))));
        }
        for first in (0..groups).step_by(share) {
            let mine: Vec<&mut [u64]> = rows.iter_mut().filter_map(Iterator::next).collect();
            let work = &work;
            scope.spawn(move || work(first, mine));
        }
    });
}
