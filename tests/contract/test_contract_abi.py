"""The ABI codec: exact bytes, typed errors, and one ABI from class and compiler."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainnode.contract import abi, codec, schema
from chainnode.contract.compiler import compile_path
from chainnode.contract.describe import describe
from chainnode.contract.testing import load_contract
from chainnode.types.errors import ClientFault

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = abi.dump(
    {
        "abi": 1,
        "name": "demo",
        "version": "1",
        "types": {
            "structs": [
                {
                    "name": "Pair",
                    "fields": [{"name": "a", "type": "u8"}, {"name": "b", "type": "bytes"}],
                }
            ]
        },
        "methods": [
            {
                "name": "put",
                "kind": "call",
                "args": [
                    {"name": "n", "type": "i64"},
                    {"name": "who", "type": "address"},
                    {"name": "pairs", "type": "list[Pair]"},
                    {"name": "note", "type": "optional[str]"},
                ],
                "returns": "tuple[u16,bool]",
                "doc": "",
            }
        ],
        "events": [{"name": "Done", "fields": [{"name": "n", "type": "u32"}]}],
        "errors": [{"code": 100, "name": "No", "fields": [{"name": "have", "type": "u64"}]}],
        "storage": [],
    }
)
ARGUMENTS: dict[str, Any] = {
    "n": -2,
    "who": "0x" + "11" * 32,
    "pairs": [{"a": 1, "b": b"xy"}],
    "note": "é",
}


def test_arguments_have_the_documented_bytes() -> None:
    data = abi.encode_args(DOCUMENT, "put", ARGUMENTS)
    assert data.hex() == (
        "fffffffffffffffe" + "11" * 32 + "00000001" + "01" + "00000002" + "7879" + "01"
        "00000002" + "c3a9"
    )
    decoded = abi.decode_args(DOCUMENT, "put", data)
    assert decoded == {**ARGUMENTS, "who": b"\x11" * 32}


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"n": 2**63}, "n"),
        ({"n": "1"}, "n"),
        ({"who": "zz"}, "who"),
        ({"who": b"1"}, "who"),
        ({"pairs": [{"a": 1}]}, "pairs[0]"),
        ({"pairs": [{"a": 256, "b": b""}]}, "pairs[0].a"),
        ({"note": 3}, "note"),
    ],
)
def test_a_wrong_argument_is_named(change: dict[str, Any], subject: str) -> None:
    with pytest.raises(ClientFault) as caught:
        abi.encode_args(DOCUMENT, "put", {**ARGUMENTS, **change})
    assert (caught.value.code, caught.value.subject) == ("INVALID_ARGUMENTS", subject)


def test_unknown_names_are_client_faults() -> None:
    with pytest.raises(ClientFault, match="UNKNOWN_METHOD"):
        abi.encode_args(DOCUMENT, "take", {})
    with pytest.raises(ClientFault, match="UNKNOWN_EVENT"):
        abi.decode_event(DOCUMENT, "Gone", b"")
    with pytest.raises(ClientFault, match="INVALID_ABI"):
        abi.Abi.parse(b"{}")


def test_results_events_and_errors_decode() -> None:
    assert abi.decode_result(DOCUMENT, "put", b"\x01\x02\x01") == (258, True)
    assert abi.decode_event(DOCUMENT, "Done", b"\x00\x00\x00\x07") == {"n": 7}
    assert abi.decode_error(DOCUMENT, 100, "No 0x" + "00" * 7 + "09") == ("No", {"have": 9})
    assert abi.decode_error(DOCUMENT, 100, "No") == ("No", {"text": "No"})
    assert abi.decode_error(DOCUMENT, 1, "why") == ("AssertionFailed", {"text": "why"})
    assert abi.decode_error(DOCUMENT, 77, "") == ("Error77", {"text": ""})
    with pytest.raises(ClientFault, match="MALFORMED"):
        abi.decode_result(DOCUMENT, "put", b"\x01\x02\x01\x00")
    with pytest.raises(ClientFault, match="MALFORMED"):
        abi.decode_result(DOCUMENT, "put", b"\x01\x02\x02")


KEY = schema.TupleOf((schema.I64, schema.BYTES, schema.STR, schema.INT, schema.U16, schema.BOOL))
KEYS = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=3),
    st.text(max_size=2),
    st.integers(-(2**127), 2**127 - 1),
    st.integers(0, 65535),
    st.booleans(),
)


@given(KEYS, KEYS)
def test_key_order_is_value_order(one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    first, second = codec.encode_key(KEY, one), codec.encode_key(KEY, two)
    assert (first < second) == (one < two)
    assert (first == second) == (one == two)


@given(KEYS)
def test_values_round_trip_and_nothing_else_decodes(value: tuple[Any, ...]) -> None:
    data = codec.encode(KEY, value)
    assert codec.decode(KEY, data) == value
    for broken in (data[:-1], data + b"\x00"):
        with pytest.raises(codec.CodecError):
            codec.decode(KEY, broken)


@pytest.mark.parametrize(
    ("name", "contract"),
    [
        ("asset", "Asset"),
        ("credit_scoring", "CreditScoring"),
        ("encrypted_sum", "EncryptedSum"),
        ("evidence", "Evidence"),
    ],
)
def test_class_and_compiler_give_one_abi(name: str, contract: str) -> None:
    path = ROOT / "contracts" / name
    module = load_contract(path)
    compiled = json.loads(compile_path(path).abi)
    for key in ("access", "compiler", "source_sha256", "wasm_sha256"):
        assert compiled.pop(key)
    assert compiled == json.loads(abi.dump(describe(getattr(module, contract))))
