//! Ciphertext columns in memory-mapped tiles: computing where the data is read.
//!
//! Every kernel reads each tile once and keeps its sums in registers; see `store` for the files.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::{refuse, HeResult};
use crate::kernels::{read, tensor_sum, weighted_panel, weighted_sum};
use crate::kernels::{Side, Span, TILE};
use crate::modulus::Modulus;
use crate::params::{profile, Profile, POLYNOMIALS_MAX};
use crate::pass::{panels, place, run, Pass, GROUP_TILES};
use crate::readahead::preload;
use crate::store::{io_error, Column};
use crate::threads::check_threads;

thread_local! {
    // Running sums of one panel, kept between passes: always overwritten, never secret.
    static WORKSPACE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

// Pieces whose sums of all models stay in the L2 cache.
const PANEL_PIECES: usize = 128;
const PANEL_PIECES_MIN: usize = 16;
const PLANES_AT_ONCE: usize = 64;

/// The columns of one folder.
pub struct Columns {
    profile: &'static Profile,
    columns: BTreeMap<String, Column>,
}

// The limb, polynomials and tiles of one step of a pass.
#[derive(Clone, Copy)]
struct Step<'a> {
    limb: usize,
    polynomials: &'a [usize],
    first_tile: usize,
}

/// Columns with signed weights and a constant added to every slot.
pub struct Linear<'a> {
    /// Column names.
    pub columns: &'a [String],
    /// One weight per column.
    pub weights: &'a [i64],
    /// The constant.
    pub constant: i64,
}

impl Columns {
    /// Maps every column of a folder.
    pub fn open(directory: &Path, profile: &'static Profile) -> HeResult<Self> {
        let mut columns = BTreeMap::new();
        let entries = fs::read_dir(directory).map_err(|error| io_error(directory, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| io_error(directory, &error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let column = Column::open(profile, directory, &path)?;
            columns.insert(column.name.clone(), column);
        }
        Ok(Self { profile, columns })
    }

    /// Names in order.
    pub fn names(&self) -> Vec<String> {
        self.columns.keys().cloned().collect()
    }

    fn column(&self, name: &str) -> HeResult<&Column> {
        self.columns
            .get(name)
            .map_or_else(|| refuse(format!("no column {name:?}")), Ok)
    }

    /// Blocks of a column.
    pub fn block_count(&self, name: &str) -> HeResult<usize> {
        Ok(self.column(name)?.blocks)
    }

    /// Bytes a residue of a column takes in its file.
    pub fn residue_bytes(&self, name: &str) -> HeResult<usize> {
        Ok(self.column(name)?.residue_bytes)
    }

    /// The Merkle roots of a column's limb planes, as `open` found them.
    pub fn roots(&self, name: &str) -> HeResult<Vec<[u8; 32]>> {
        Ok(self.column(name)?.planes.iter().map(|p| p.root).collect())
    }

    /// Reads columns again and compares their roots.
    pub fn verify(&self, names: &[String]) -> HeResult<()> {
        for name in names {
            self.column(name)?.verify()?;
        }
        Ok(())
    }

    /// Drops columns from memory, as a benchmark of cold reads needs.
    pub fn evict(&self, names: &[String]) -> HeResult<()> {
        for name in names {
            for plane in &self.column(name)?.planes {
                plane.evict()?;
            }
        }
        Ok(())
    }

    /// Reads the leading limbs of columns into memory, a column's plane at a time.
    pub fn preload(&self, names: &[String], limbs: usize) -> HeResult<()> {
        let mut planes = Vec::new();
        for name in names {
            planes.extend(self.column(name)?.planes.iter().take(limbs));
        }
        for few in planes.chunks(PLANES_AT_ONCE) {
            let runs: Vec<&[u8]> = few.iter().map(|plane| plane.all()).collect();
            preload(&runs);
        }
        planes.iter().try_for_each(|plane| plane.check_intact())
    }

    // What one step of a pass reads: pieces of a limb plane of each column.
    fn runs(&self, names: &[&[String]], step: Step<'_>, blocks: usize, pass: Pass) -> Vec<&[u8]> {
        let tiles = self.profile.ring.degree / TILE;
        let mut runs = Vec::new();
        for column in names.iter().copied().flatten() {
            let Some(column) = self.columns.get(column) else {
                continue;
            };
            let plane = &column.planes[step.limb];
            for polynomial in step.polynomials {
                let first = |tile| place(tiles, *polynomial, tile, blocks, pass.first_block);
                if pass.block_count == blocks {
                    runs.push(plane.pieces(first(step.first_tile), GROUP_TILES * blocks));
                } else {
                    let all = step.first_tile..step.first_tile + GROUP_TILES;
                    runs.extend(all.map(|tile| plane.pieces(first(tile), pass.block_count)));
                }
            }
        }
        runs
    }

    /// A copy of a column's limb plane as it is stored, without its header page.
    pub fn stored(&self, name: &str, limb: usize) -> HeResult<Vec<u64>> {
        let column = self.column(name)?;
        let Some(plane) = column.planes.get(limb) else {
            return refuse(format!("column {name} has {} limbs only", column.limbs));
        };
        let words = plane.source()?.words().to_vec();
        plane.check_intact()?;
        Ok(words)
    }

    /// Refuses what no pass over these columns could do; returns their common block count.
    pub fn check_pass(&self, names: &[String], pass: Pass) -> HeResult<usize> {
        self.check(&[names], pass)
    }

    // Refuses a result computed on a file that shrank meanwhile.
    fn check_intact(&self, names: &[String], limbs: usize) -> HeResult<()> {
        for name in names {
            for plane in &self.column(name)?.planes[..limbs] {
                plane.check_intact()?;
            }
        }
        Ok(())
    }

    // Checks the pass against every column; returns their common block count.
    fn check(&self, names: &[&[String]], pass: Pass) -> HeResult<usize> {
        self.profile.check_limbs(pass.limbs)?;
        check_threads(pass.threads)?;
        let mut blocks = None;
        for name in names.iter().copied().flatten() {
            let column = self.column(name)?;
            if column.limbs < pass.limbs {
                return refuse(format!("column {name} has {} limbs only", column.limbs));
            }
            if *blocks.get_or_insert(column.blocks) != column.blocks {
                return refuse(format!(
                    "column {name} has another block count than the others"
                ));
            }
        }
        let Some(blocks) = blocks else {
            return refuse("no column given");
        };
        let end = pass.first_block.checked_add(pass.block_count);
        if pass.block_count == 0 || end.is_none_or(|end| end > blocks) {
            return refuse(format!(
                "block range is empty or beyond the {blocks} blocks"
            ));
        }
        Ok(blocks)
    }

    fn side<'a>(&'a self, linear: &Linear<'_>, limb: usize) -> HeResult<Side<'a>> {
        if linear.columns.len() != linear.weights.len() {
            return refuse(format!(
                "{} weights given for {} columns",
                linear.weights.len(),
                linear.columns.len()
            ));
        }
        let q = self.profile.ring.modulus(limb);
        let mut planes = Vec::new();
        for name in linear.columns {
            planes.push(self.column(name)?.planes[limb].source()?);
        }
        Ok(Side::new(planes, linear.weights, linear.constant, q))
    }

    fn sides<'a>(&'a self, linear: &Linear<'_>, limbs: usize) -> HeResult<Vec<Side<'a>>> {
        (0..limbs).map(|limb| self.side(linear, limb)).collect()
    }

    /// Exclusive or of every word the columns hold in these limbs: the bound no kernel can beat.
    pub fn read_all(&self, columns: &[String], limbs: usize) -> HeResult<u64> {
        let pass = Pass {
            limbs,
            first_block: 0,
            block_count: 1,
            threads: 1,
        };
        self.check(&[columns], pass)?;
        let mut all = 0;
        for name in columns {
            for plane in &self.column(name)?.planes[..limbs] {
                all ^= read(plane.source()?.words());
            }
        }
        self.check_intact(columns, limbs)?;
        Ok(all)
    }

    /// Per model and block one ciphertext: the weighted sum of the columns.
    pub fn mac_scalar(
        &self,
        columns: &[String],
        weights: &[Vec<i64>],
        pass: Pass,
    ) -> HeResult<Vec<Vec<Vec<u64>>>> {
        let blocks = self.check(&[columns], pass)?;
        let models = weights
            .iter()
            .map(|row| {
                self.sides(
                    &Linear {
                        columns,
                        weights: row,
                        constant: 0,
                    },
                    pass.limbs,
                )
            })
            .collect::<HeResult<Vec<_>>>()?;
        let ring = self.profile.ring;
        let tiles = ring.degree / TILE;
        let size = 2 * pass.limbs * ring.degree;
        let mut out = vec![vec![0; size]; models.len() * pass.block_count];
        let parts = out.iter_mut().map(Vec::as_mut_slice).collect();
        let touched = |row: usize, first_tile| {
            let step = Step {
                limb: row % pass.limbs,
                polynomials: &[row / pass.limbs],
                first_tile,
            };
            self.runs(&[columns], step, blocks, pass)
        };
        run(tiles, pass, parts, touched, |row, first_tile, parts| {
            let limb = row % pass.limbs;
            let sides: Vec<&Side<'_>> = models.iter().map(|model| &model[limb]).collect();
            let q = self.profile.ring.modulus(limb);
            let first = place(
                tiles,
                row / pass.limbs,
                first_tile,
                blocks,
                pass.first_block,
            );
            let mut workspace = WORKSPACE.take();
            let pieces = (PANEL_PIECES / models.len().max(1)).max(PANEL_PIECES_MIN);
            workspace.resize(3 * models.len() * pieces * TILE, 0);
            panels(blocks, pass, first, pieces, |spans, places| {
                let words = places.len() * TILE;
                let (sums, rest) = workspace.split_at_mut(models.len() * words);
                let scratch = &mut rest[..2 * models.len() * words];
                weighted_panel(&sides, spans, q, scratch, sums);
                for (model, results) in sums.chunks_exact(words).enumerate() {
                    for (piece, (tile, block)) in results.chunks_exact(TILE).zip(places) {
                        parts[model * pass.block_count + block][tile * TILE..][..TILE]
                            .copy_from_slice(piece);
                    }
                }
            });
            WORKSPACE.set(workspace);
        });
        self.check_intact(columns, pass.limbs)?;
        let mut ciphertexts = out.into_iter();
        Ok((0..models.len())
            .map(|_| ciphertexts.by_ref().take(pass.block_count).collect())
            .collect())
    }

    /// Sum over blocks of the weighted columns.
    pub fn sum(&self, columns: &[String], weights: &[i64], pass: Pass) -> HeResult<Vec<u64>> {
        let constant = 0;
        let term = [Linear {
            columns,
            weights,
            constant,
        }];
        Ok(self.sums(&[&term], pass)?.concat())
    }

    /// Sum over blocks of the product of two to four factors, one polynomial more than factors.
    pub fn tensor_sum(&self, factors: &[Linear<'_>], pass: Pass) -> HeResult<Vec<u64>> {
        self.check_factors(factors.len(), 2)?;
        Ok(self.sums(&[factors], pass)?.concat())
    }

    fn check_factors(&self, count: usize, least: usize) -> HeResult<()> {
        let most = self.profile.factors_max();
        if !(least..=most).contains(&count) {
            return refuse(format!(
                "profile {} multiplies {least} to {most} factors, got {count}",
                self.profile.name
            ));
        }
        Ok(())
    }

    /// Per term the sum over blocks of the product of its factors, one polynomial more than
    /// factors; the constant of a term of one factor is left out.
    ///
    /// All terms are computed tile by tile, so that a column that many read comes from memory once.
    pub fn sums(&self, terms: &[&[Linear<'_>]], pass: Pass) -> HeResult<Vec<Vec<u64>>> {
        for term in terms {
            self.check_factors(term.len(), 1)?;
        }
        let factors = || terms.iter().copied().flatten();
        let names: Vec<&[String]> = factors().map(|factor| factor.columns).collect();
        let blocks = self.check(&names, pass)?;
        let distinct: BTreeSet<&String> = names.iter().copied().flatten().collect();
        let read: Vec<String> = distinct.into_iter().cloned().collect();
        let sides = terms
            .iter()
            .map(|term| term.iter().map(|f| self.sides(f, pass.limbs)).collect())
            .collect::<HeResult<Vec<Vec<Vec<Side<'_>>>>>>()?;
        let ring = self.profile.ring;
        let tiles = ring.degree / TILE;
        let row = pass.limbs * ring.degree;
        let of_term = |term: &&[Linear<'_>]| vec![0; (term.len() + 1) * row];
        let mut out: Vec<Vec<u64>> = terms.iter().map(of_term).collect();
        let parts = out.iter_mut().flat_map(|out| out.chunks_exact_mut(row));
        let touched = |limb, first_tile| {
            let step = Step {
                limb,
                polynomials: &[0, 1],
                first_tile,
            };
            self.runs(&[&read], step, blocks, pass)
        };
        run(
            tiles,
            pass,
            parts.collect(),
            touched,
            |limb, first_tile, parts| {
                let q = ring.modulus(limb);
                let sides: Vec<Vec<&Side<'_>>> =
                    sides.iter().map(|term| at_limb(term, limb)).collect();
                for i in 0..GROUP_TILES {
                    let spans = [0, 1].map(|polynomial| Span {
                        piece: place(tiles, polynomial, first_tile + i, blocks, pass.first_block),
                        count: pass.block_count,
                    });
                    let mut rest = &mut *parts;
                    for term in &sides {
                        let (mine, others) = rest.split_at_mut(term.len() + 1);
                        term_sum(term, spans, blocks, q, i, mine);
                        rest = others;
                    }
                }
            },
        );
        self.check_intact(&read, pass.limbs)?;
        Ok(out)
    }

    /// The sums of each output: `counts` says how many terms in turn belong to one.
    ///
    /// A shorter ciphertext is a longer one whose last polynomials are zero.
    pub fn add_up(
        &self,
        sums: Vec<Vec<u64>>,
        counts: impl Iterator<Item = usize>,
        limbs: usize,
    ) -> Vec<Vec<u64>> {
        let ring = self.profile.ring;
        let mut sums = sums.into_iter();
        counts
            .map(|count| {
                let mut terms: Vec<Vec<u64>> = sums.by_ref().take(count).collect();
                terms.sort_by_key(Vec::len);
                let mut total = terms.pop().unwrap_or_default();
                for term in terms {
                    let rows = total.chunks_exact_mut(ring.degree);
                    for (row, (a, b)) in rows.zip(term.chunks_exact(ring.degree)).enumerate() {
                        ring.add_row(a, b, row % limbs);
                    }
                }
                total
            })
            .collect()
    }
}

// The factors of a term at one limb.
fn at_limb<'a, 'b>(factors: &'a [Vec<Side<'b>>], limb: usize) -> Vec<&'a Side<'b>> {
    factors.iter().map(|sides| &sides[limb]).collect()
}

// One term's sum at tile `i` of its parts.
fn term_sum(
    sides: &[&Side<'_>],
    spans: [Span; 2],
    blocks: usize,
    q: &Modulus,
    i: usize,
    parts: &mut [&mut [u64]],
) {
    let tile = i * TILE..(i + 1) * TILE;
    if let [side] = sides {
        for (part, span) in parts.iter_mut().zip(spans) {
            weighted_sum(side, span, q, &mut part[tile.clone()]);
        }
        return;
    }
    let mut sums = [0; POLYNOMIALS_MAX * TILE];
    let sums = &mut sums[..parts.len() * TILE];
    tensor_sum(sides, spans, blocks, q, sums);
    for (part, sum) in parts.iter_mut().zip(sums.chunks_exact(TILE)) {
        part[tile.clone()].copy_from_slice(sum);
    }
}

/// Opens the columns of a folder by profile name.
pub fn open(directory: &Path, profile_name: &str) -> HeResult<Columns> {
    Columns::open(directory, profile(profile_name)?)
}
