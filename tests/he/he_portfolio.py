"""Plaintext arithmetic over the test portfolio: what encrypted plans must equal."""

from pathlib import Path

import numpy as np

from chainnode.he import encode
from chainnode.he.encode import Cell
from chainnode.he.plan import LinearForm, Plan
from chainnode.he.profiles import PROFILES
from chainnode.he.schema import TableSchema


def write_csv(path: Path, cells: dict[str, list[Cell]]) -> None:
    lines = [",".join(cells)]
    lines += [",".join(str(cell) for cell in row) for row in zip(*cells.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class PlainColumns:
    """Evaluates a plan's linear forms on plaintext slots with numpy integers."""

    def __init__(self, schema: TableSchema, cells: dict[str, list[Cell]]) -> None:
        self.slots: dict[str, np.ndarray] = {}
        for owner in ("registry", "bank-a", "statistics"):
            for name, blocks in encode.owner_blocks(schema, owner, cells, "S36"):
                self.slots[name] = np.frombuffer(b"".join(blocks), dtype="<u8").astype(object)

    def form(self, form: LinearForm) -> np.ndarray:
        pairs = zip(form.columns, form.weights, strict=True)
        return sum((self.slots[name] * weight for name, weight in pairs), form.constant)

    def residues(self, plan: Plan) -> list[int]:
        """What the council would open, modulo t."""
        assert plan.aggregate is not None
        opened = []
        for output in plan.aggregate.outputs:
            total = 0
            for term in output.terms:
                product = self.form(term.factors[0])
                for factor in term.factors[1:]:
                    product = product * self.form(factor)
                total += int(product.sum())
            opened.append(total % PROFILES[plan.profile].plain_modulus)
        return opened
