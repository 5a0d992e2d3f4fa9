"""What the bank computes from opened numbers: bands, quotients, NULLs, what is shown."""

from decimal import Decimal
from fractions import Fraction

from chainnode.he import answer
from chainnode.he.answer import Average
from chainnode.he.plan import Computed, Connective, Mean, Number, Total
from chainnode.he.plan import Test as HavingTest

COUNT = Total(((0, 1),), 0, -1)
SUM = Total(((1, 1), (2, 65_536)), 2, 0)


def value(node: object, *opened: int) -> object:
    return answer.evaluate(node, (), opened)


def test_scores_are_counted_between_cuts() -> None:
    rows = answer.band_rows((480, 520), [479, 480, 519, 520, 900, -5])
    assert [row.values for row in rows] == [("..<480", 2), ("480..<520", 2), ("520..", 2)]
    assert [row.values for row in answer.band_rows((0,), [1])] == [("0..", 1)]


def test_limbs_and_decimals_make_an_exact_sum() -> None:
    assert value(SUM, 3, 1, 2) == Decimal("1310.73")
    assert value(SUM, 0, 0, 0) is None
    assert value(Mean(SUM), 3, 1, 2) == Average(Decimal("1310.73"), 3, 436.91)
    assert value(Mean(SUM), 0, 0, 0) is None


def test_arithmetic_is_exact_and_null_where_sql_says_so() -> None:
    assert value(Computed("/", SUM, COUNT), 3, 1, 2) == Fraction(131_073, 300)
    assert value(Computed("/", SUM, Number(0)), 3, 1, 2) is None
    assert value(Computed("+", SUM, COUNT), 0, 0, 0) is None
    assert value(Computed("*", COUNT, Number(15, 1)), 3) == Fraction(9, 2)
    product = value(Computed("-", COUNT, Number(5)), 3)
    assert product == -2 and isinstance(product, int)


def test_having_knows_three_outcomes() -> None:
    unknown = HavingTest(">", SUM, Number(0))
    true, false = HavingTest("=", COUNT, Number(0)), HavingTest("<>", COUNT, Number(0))
    opened = (0, 0, 0)
    for operator, parts, expected in (
        ("and", (unknown, true), None),
        ("and", (unknown, false), False),
        ("or", (unknown, true), True),
        ("or", (unknown, false), None),
        ("not", (unknown,), None),
        ("not", (true,), False),
    ):
        assert answer.holds(Connective(operator, parts), (), opened) is expected


def test_values_are_shown_for_people() -> None:
    shown = [answer.shown(one) for one in (Average(1, 2, 0.5), Fraction(1, 4), Decimal("1.50"))]
    assert shown == [0.5, 0.25, "1.50"]
    assert answer.shown(None) is None and answer.shown("x") == "x" and answer.shown(7) == 7
