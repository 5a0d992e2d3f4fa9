"""`PRIVATE(name)` in a text: what the bank calls its constant, and the record that replaces it."""

from __future__ import annotations

import sqlglot
from sqlglot.tokenizer_core import Token, TokenType


def private_name(sql: str) -> str:
    """The name in the first `PRIVATE(name)`; empty if there is none, or a record stands there."""
    token = _named(sql)
    return "" if token is None else str(token.text)


def with_record(sql: str, record: bytes) -> str:
    """The text with the hash of a record in place of the name."""
    token = _named(sql)
    if token is None:
        return sql
    return f"{sql[: token.start]}'{record.hex()}'{sql[token.end + 1 :]}"


def _named(sql: str) -> Token | None:
    tokens = sqlglot.tokenize(sql, read="duckdb")
    for place, token in enumerate(tokens[:-3]):
        opening, name, closing = tokens[place + 1 : place + 4]
        if (
            token.text.upper() == "PRIVATE"
            and token.token_type is not TokenType.STRING
            and opening.token_type is TokenType.L_PAREN
            and name.token_type is not TokenType.STRING
            and closing.token_type is TokenType.R_PAREN
        ):
            return name
    return None
