"""TPC-H Q1, Q6, Q12 and Q14 through encryption equal DuckDB on the plaintext, exactly."""

from pathlib import Path

import pytest

from chainnode.he.sql import explain
from chainnode.types.errors import ConfigError
from examples.tpch import encrypted, tables


@pytest.mark.timeout(180)
def test_encrypted_tpch_equals_duckdb(tmp_path: Path) -> None:
    connection = tables.generate(tmp_path, "0.001")
    schema, cells = tables.read(connection)
    planned = encrypted.plans(schema)
    assert {name: plan.profile for name, plan in planned.items()} == {
        "Q1": "S36",
        "Q6": "M",
        "Q12": "M",
        "Q14": "M",
    }
    assert "degree 4" in explain(planned["Q6"]) and "degree 2" in explain(planned["Q1"])
    store = encrypted.Store(tmp_path / "columns", schema, cells, planned)
    for name, plan in planned.items():
        rows = store.answer(plan, threads=2).rows
        assert rows and encrypted.exact(rows) == encrypted.plaintext(connection, name), name


def test_a_missing_generator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(ConfigError) as caught:
        tables.generate(tmp_path, "0.001")
    assert caught.value.code == "EXTRA_MISSING"
