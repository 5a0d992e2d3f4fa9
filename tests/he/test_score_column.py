"""Scores by id behave as a dictionary of them."""

import numpy as np
import pytest

from chainnode.he.score_column import ScoreColumn

PLAIN = {"E2": 700, "E0": -3, "E1": 0}


@pytest.fixture
def column() -> ScoreColumn:
    return ScoreColumn(list(PLAIN), np.array(list(PLAIN.values()), np.int64))


def test_it_reads_as_the_dictionary(column: ScoreColumn) -> None:
    assert column == PLAIN
    assert dict(column) == PLAIN
    assert (list(column), list(column.values())) == (list(PLAIN), list(PLAIN.values()))
    assert list(column.items()) == list(PLAIN.items())
    assert (len(column), column["E0"], column.get("E9")) == (3, -3, None)
    assert "E1" in column and -3 in column.values() and ("E2", 700) in column.items()
    assert all(type(score) is int for score in (*column.values(), column["E2"]))
    with pytest.raises(KeyError):
        column["E9"]


def test_ids_and_scores_belong_together() -> None:
    with pytest.raises(ValueError, match="1 scores for 2 ids"):
        ScoreColumn(["a", "b"], np.array([1], np.int64))
