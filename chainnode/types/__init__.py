"""The ledger's values: frozen dataclasses, their canonical bytes, errors and limits."""
