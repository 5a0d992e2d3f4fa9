"""`python -m examples.tpch [--scale 0.01]`: plans, answers and times beside DuckDB's."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from chainnode.he.answer import shown
from chainnode.he.sql import explain
from examples.tpch import encrypted, tables


def main() -> int:
    """Run the four queries; 1 if an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="0.001")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--explain", action="store_true", help="print every plan")
    options = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        connection = tables.generate(folder, options.scale)
        schema, cells = tables.read(connection)
        planned = encrypted.plans(schema)
        store = encrypted.Store(folder / "columns", schema, cells, planned)
        for query, plan in planned.items():
            outcome = store.answer(plan, options.threads)
            equal = encrypted.exact(outcome.rows) == encrypted.plaintext(connection, query)
            different += not equal
            rate = schema.rows / outcome.seconds
            print(
                f"{query:<4} {schema.rows} rows  profile {plan.profile}, {plan.limbs} limbs  "
                f"{outcome.seconds * 1000:.0f} ms  {rate:,.0f} rows/s  "
                f"{'equal to DuckDB' if equal else 'DIFFERENT'}"
            )
            if options.explain:
                print(explain(plan))
            for row in outcome.rows:
                print("     ", *(shown(value) for value in row.values))
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
