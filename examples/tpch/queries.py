"""The four queries over the joined and encrypted LINEITEM, and over plaintext.

`l_late` stands for `l_commitdate < l_receiptdate AND l_shipdate < l_commitdate`: one owner holds
all three dates, so it encrypts the outcome as a column.
"""

from typing import Final

Q1: Final = """
SELECT l_returnflag, l_linestatus, SUM(l_quantity) AS sum_qty,
  SUM(l_extendedprice) AS sum_base_price,
  SUM(l_extendedprice * (1 - l_discount)) AS sum_disc_price,
  SUM(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
  AVG(l_quantity) AS avg_qty, AVG(l_extendedprice) AS avg_price, AVG(l_discount) AS avg_disc,
  COUNT(*) AS count_order
FROM lineitem WHERE l_shipdate <= DATE '1998-09-02'
GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus
"""

Q6: Final = """
SELECT SUM(l_extendedprice * l_discount) AS revenue FROM lineitem
WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
  AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24
"""

Q12: Final = """
SELECT l_shipmode,
  SUM(CASE WHEN o_orderpriority = '1-URGENT' OR o_orderpriority = '2-HIGH' THEN 1 ELSE 0 END)
    AS high_line_count,
  SUM(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 END)
    AS low_line_count
FROM lineitem WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_late = 'yes'
  AND l_receiptdate >= DATE '1994-01-01' AND l_receiptdate < DATE '1995-01-01'
GROUP BY l_shipmode ORDER BY l_shipmode
"""

Q14: Final = """
SELECT 100.00 * SUM(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount)
    ELSE 0 END) / SUM(l_extendedprice * (1 - l_discount)) AS promo_revenue
FROM lineitem WHERE l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-10-01'
"""

QUERIES: Final = {"Q1": Q1, "Q6": Q6, "Q12": Q12, "Q14": Q14}

EXACT: Final = {
    "AVG(l_quantity)": "SUM(l_quantity)",
    "AVG(l_extendedprice)": "SUM(l_extendedprice)",
    "AVG(l_discount)": "SUM(l_discount)",
    "100.00 * SUM(CASE": "SUM(CASE",
    "ELSE 0 END) / SUM(": "ELSE 0 END), SUM(",
}
"""What is asked of DuckDB in place of averages and quotients, which it rounds: their exact sums."""


def plain(name: str) -> str:
    """A query as DuckDB answers it exactly; averages and quotients are divided afterwards."""
    sql = QUERIES[name]
    for written, exact in EXACT.items():
        sql = sql.replace(written, exact)
    return sql
