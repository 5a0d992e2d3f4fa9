"""The backend that runs the contract's own Python."""

from __future__ import annotations

from chainnode.contract import schema
from chainnode.contract.abi import error_text
from chainnode.contract.codec import CodecError, RangeError, Reader, decode_from, encode
from chainnode.contract.describe import records
from chainnode.contract.frame import Frame, entered
from chainnode.contract.interface import CallFailed, MalformedResult
from chainnode.contract.paillier import PaillierCiphertextInvalid, PaillierKeyInvalid
from chainnode.contract.schema import USER_ERROR
from chainnode.contract.sdk import Contract, Error, method_types
from chainnode.contract.testing.checks import add_checks
from chainnode.contract.testing.harness import Outcome
from chainnode.types.limits import CONTRACT_REVERT_TEXT_MAX_BYTES


class NativeBackend:
    """Runs methods under CPython with the range and overflow checks the compiled code has."""

    def __init__(self, contract: type[Contract]) -> None:
        add_checks(contract)
        self._contract = contract
        errors = records(contract)[1]
        self._codes = {item.name: USER_ERROR + i for i, item in enumerate(errors)}
        self._errors = {item.name: item for item in errors}

    def run(self, frame: Frame, kind: str, method: str, args: bytes) -> Outcome:
        instance = self._contract()
        types, returns = method_types(getattr(self._contract, method))
        try:
            reader = Reader(args)
            values = {name: decode_from(item, reader, name) for name, item in types}
            reader.finish()
        except CodecError as fault:
            return Outcome(code=schema.FAULT_DECODE, data=str(fault).encode())
        try:
            with entered(frame):
                result = getattr(instance, method)(**values)
            return Outcome(result=encode(returns, result))
        except Error as fault:
            return self._declared(fault)
        except CallFailed as fault:
            shown = str(fault).encode()[:CONTRACT_REVERT_TEXT_MAX_BYTES].decode(errors="ignore")
            return Outcome(code=schema.FAULT_CALL, data=shown.encode())
        except Exception as fault:
            code = fault_code(fault)
            if code is None:
                raise
            text = str(fault).encode() if code == schema.FAULT_ASSERT else b""
            return Outcome(
                code=code, data=text if len(text) <= CONTRACT_REVERT_TEXT_MAX_BYTES else b""
            )

    def _declared(self, fault: Error) -> Outcome:
        name = type(fault).__name__
        try:
            data = encode(self._errors[name], fault)
        except RangeError:
            return Outcome(code=schema.FAULT_OVERFLOW)
        return Outcome(code=self._codes[name], data=error_text(name, data).encode())


def fault_code(fault: Exception) -> int | None:
    """Return the code compiled code reverts with in this case; None for a bug in the contract."""
    match fault:
        case PaillierKeyInvalid():
            return schema.FAULT_PAILLIER_KEY
        case PaillierCiphertextInvalid():
            return schema.FAULT_PAILLIER_CIPHERTEXT
        case AssertionError():
            return schema.FAULT_ASSERT
        case MalformedResult():
            return schema.FAULT_DECODE
        case RangeError() | OverflowError():
            return schema.FAULT_OVERFLOW
        case ZeroDivisionError():
            return schema.FAULT_DIVISION
        case IndexError():
            return schema.FAULT_INDEX
        case KeyError():
            return schema.FAULT_KEY
        case ValueError() if not isinstance(fault, UnicodeError):
            return schema.FAULT_VALUE
        case _:
            return None
