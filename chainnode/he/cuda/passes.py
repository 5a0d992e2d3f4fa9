"""Passes over encrypted columns on a device: weighted columns, and sums of products of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from chainnode.he.cuda.device import Buffer, Device
from chainnode.he.cuda.ring import DeviceRing
from chainnode.he.kernels import Pass, Term

_TILE: Final = 64
_PLACES: Final = 16
# Signed sums of residues below 2^43 with weights of this total stay below 2^60.
_SMALL_TOTAL_MAX: Final = 1 << 17
# Models a launch computes together, the most first: more need more registers than there are.
_MODELS_SMALL: Final = (4, 2, 1)
_MODELS: Final = (2, 1)
# So many threads keep the largest devices of today busy.
_THREADS_WANTED: Final = 1 << 17


def weighted(
    device: Device,
    ring: DeviceRing,
    planes: Sequence[Buffer],
    weights: Sequence[Sequence[int]],
    blocks: int,
    part: Pass,
) -> Buffer:
    """Weighted sums of columns, [model][block][2][limb][coefficient].

    Args:
        device: computes.
        ring: the profile's tables there.
        planes: [limb][column].
        weights: [model][column], signed.
        blocks: that the columns hold.
        part: what to read.

    Raises:
        DeviceFaultError: what the device raises.
    """
    columns, models = len(weights[0]), len(weights)
    is_small = all(_total(row) <= _SMALL_TOTAL_MAX for row in weights)
    table = device.upload(_weights(ring, part.limbs, list(zip(*weights, strict=True)), is_small))
    addresses = _addresses(device, planes)
    out = device.empty(models * part.count * 2 * part.limbs * ring.degree)
    threads = 2 * part.limbs * ring.degree // _TILE * part.count * _PLACES
    first = 0
    for size in _groups(models, _MODELS_SMALL if is_small else _MODELS):
        device.launch(
            f"weighted_{size}{'_small' if is_small else ''}",
            threads,
            *(ring.degree, part.limbs, blocks, part.first, part.count, columns, first, models),
            *(addresses, table, ring.primes, out),
        )
        first += size
    return out


@dataclass(frozen=True, slots=True)
class _Launch:
    """Terms of equally many factors, computed together.

    Args:
        factors: of each term.
        places: the terms' numbers among all terms of the pass.
        shares: into how many runs of blocks each sum is cut.
        first_row: of the rows it writes, [term][share][factors + 1][limb].
    """

    factors: int
    places: tuple[int, ...]
    shares: int
    first_row: int

    def rows(self, limbs: int) -> int:
        return len(self.places) * self.shares * (self.factors + 1) * limbs


def sums(
    device: Device,
    ring: DeviceRing,
    planes: Sequence[Buffer],
    names: Sequence[str],
    outputs: Sequence[Sequence[Term]],
    blocks: int,
    part: Pass,
) -> Buffer:
    """Each output's sum over terms and blocks, [polynomial][limb][coefficient] one after another;
    an output has one polynomial more than its longest term has factors.

    Args:
        device: computes.
        ring: the profile's tables there.
        planes: [limb][column].
        names: the columns' names.
        outputs: what to sum; the constant of a term of one factor is left out.
        blocks: that the columns hold.
        part: what to read.

    Raises:
        DeviceFaultError: what the device raises.
    """
    terms = [term for output in outputs for term in output]
    slots = {name: slot for slot, name in enumerate(names)}
    addresses = _addresses(device, planes)
    launches = list(_launches(terms, ring.degree, part))
    rows = sum(launch.rows(part.limbs) for launch in launches)
    parts = device.empty(rows * ring.degree)
    for launch in launches:
        _launch(
            device,
            ring,
            launch,
            [terms[i] for i in launch.places],
            slots,
            (addresses, parts),
            blocks,
            part,
        )
    sources, starts = _sources(outputs, launches, part.limbs)
    out = device.empty((len(starts) - 1) * ring.degree)
    device.launch(
        "add_rows",
        (len(starts) - 1) * ring.degree,
        *(len(starts) - 1, ring.degree, part.limbs),
        *(parts, device.upload(sources), device.upload(starts), ring.primes, out),
    )
    return out


def _launches(terms: Sequence[Term], degree: int, part: Pass) -> Iterator[_Launch]:
    first_row = 0
    for factors in sorted({len(term) for term in terms}):
        places = tuple(i for i, term in enumerate(terms) if len(term) == factors)
        threads = len(places) * part.limbs * degree // _TILE * _PLACES
        shares = min(part.count, max(1, _THREADS_WANTED // threads))
        launch = _Launch(factors, places, shares, first_row)
        yield launch
        first_row += launch.rows(part.limbs)


def _launch(
    device: Device,
    ring: DeviceRing,
    launch: _Launch,
    terms: Sequence[Term],
    slots: dict[str, int],
    memory: tuple[Buffer, Buffer],
    blocks: int,
    part: Pass,
) -> None:
    factors = [factor for term in terms for factor in term]
    entries = [
        (slots[name], weight)
        for names, weights, _ in factors
        for name, weight in zip(names, weights, strict=True)
    ]
    starts = [0, *accumulate(len(names) for names, _, _ in factors)]
    # A sum of one factor adds up canonical residues, block by block.
    is_small = all(_total(weights) <= _SMALL_TOTAL_MAX for _, weights, _ in factors)
    weights = _weights(ring, part.limbs, [(weight,) for _, weight in entries], is_small)
    constants = [constant if launch.factors > 1 else 0 for _, _, constant in factors]
    residues = [[c % q for c in constants] for q in ring.moduli[: part.limbs]]
    addresses, parts = memory
    width = launch.factors + 1
    threads = len(terms) * launch.shares * part.limbs * ring.degree // _TILE * _PLACES
    device.launch(
        f"products_{launch.factors}{'_small' if is_small else ''}",
        threads,
        *(ring.degree, part.limbs, blocks, part.first, part.count),
        *(len(slots), len(terms), len(entries), launch.shares),
        addresses,
        device.upload(np.array([slot for slot, _ in entries], np.uint32)),
        device.upload(np.array(starts, np.uint32)),
        device.upload(weights),
        device.upload(np.array(residues, np.uint64)),
        ring.primes,
        parts.words_from(
            launch.first_row * ring.degree,
            len(terms) * launch.shares * width * part.limbs * ring.degree,
        ),
    )


def _sources(
    outputs: Sequence[Sequence[Term]], launches: Sequence[_Launch], limbs: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """For each row of the results the rows of partial sums to add: their numbers, and where each
    result's begin."""
    firsts: dict[int, tuple[int, _Launch]] = {}
    for launch in launches:
        for place, term in enumerate(launch.places):
            width = launch.shares * (launch.factors + 1) * limbs
            firsts[term] = launch.first_row + place * width, launch
    sources: list[int] = []
    starts, term = [0], 0
    for output in outputs:
        members = [firsts[term + i] for i in range(len(output))]
        term += len(output)
        for polynomial in range(max(len(item) for item in output) + 1):
            # A shorter ciphertext is a longer one whose last polynomials are zero.
            bases = [
                first + (share * (launch.factors + 1) + polynomial) * limbs
                for first, launch in members
                if polynomial <= launch.factors
                for share in range(launch.shares)
            ]
            for limb in range(limbs):
                sources.extend(base + limb for base in bases)
                starts.append(len(sources))
    return np.array(sources, np.uint32), np.array(starts, np.uint32)


def _addresses(device: Device, planes: Sequence[Buffer]) -> Buffer:
    return device.upload(np.array([plane.address for plane in planes], np.uint64))


def _total(weights: Sequence[int]) -> int:
    return sum(abs(weight) for weight in weights)


def _weights(
    ring: DeviceRing, limbs: int, rows: Sequence[Sequence[int]], is_small: bool
) -> npt.NDArray[np.int64]:
    """[limb][row]...: as they are when small, else residues."""
    if is_small:
        return np.broadcast_to(np.array(rows, np.int64), (limbs, *np.shape(rows))).copy()
    return np.array(
        [[[weight % q for weight in row] for row in rows] for q in ring.moduli[:limbs]], np.int64
    )


def _groups(count: int, sizes: Sequence[int]) -> Iterator[int]:
    """Summands of a number, the largest first."""
    for size in sizes:
        while count >= size:
            yield size
            count -= size
