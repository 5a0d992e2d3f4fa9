"""Opened scores as columns: ids and numbers side by side."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class ScoreColumn(Mapping[str, int]):
    """Scores by id, in the registry's order.

    A dictionary of as many ids costs more than decrypting their scores: it is made when an id is
    looked up, not for going through all of them.

    Args:
        ids: one for each score, no two alike.
        scores: whole numbers.
    """

    def __init__(self, ids: Sequence[str], scores: NDArray[np.int64]) -> None:
        if len(ids) != len(scores):
            raise ValueError(f"{len(scores)} scores for {len(ids)} ids")
        self.ids, self.scores = ids, scores

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: place for place, key in enumerate(self.ids)}

    def __getitem__(self, key: str) -> int:
        return int(self.scores[self._places[key]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ScoreColumn({dict(self.items())!r})"

    def values(self) -> ValuesView[int]:
        """The scores."""
        return _Scores(self)

    def items(self) -> ItemsView[str, int]:
        """Each id with its score."""
        return _Pairs(self)


class _Scores(ValuesView[int]):
    _mapping: ScoreColumn

    def __iter__(self) -> Iterator[int]:
        return iter(self._mapping.scores.tolist())


class _Pairs(ItemsView[str, int]):
    _mapping: ScoreColumn

    def __iter__(self) -> Iterator[tuple[str, int]]:
        column = self._mapping
        return zip(column.ids, column.scores.tolist(), strict=True)
