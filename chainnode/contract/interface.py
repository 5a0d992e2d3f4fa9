"""Calls of other contracts: `at(name, Interface).method(...)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from chainnode.contract import frame
from chainnode.contract.codec import CodecError, decode, encode
from chainnode.contract.sdk import method_types

I = TypeVar("I", bound="Interface")  # noqa: E741 - the usual name for it


class CallFailed(Exception):
    """A call of another contract failed; what that contract did is undone.

    Args:
        status: `REVERTED`, `TRAPPED`, `OUT_OF_GAS`, `UNKNOWN_CONTRACT`, `CONTRACT_FROZEN`,
            `UNKNOWN_METHOD`, `REENTRANT` or `CALL_DEPTH`.
        code: what it reverted with, else 0.
        text: what it said.
    """

    def __init__(self, contract: str, method: str, status: str, code: int, text: str) -> None:
        shown = [status, *([str(code)] if code else []), *([text] if text else [])]
        super().__init__(f"{contract}.{method}: {' '.join(shown)}")
        self.contract = contract
        self.method = method
        self.status = status
        self.code = code
        self.text = text


class MalformedResult(CodecError):
    """Another contract returned what its interface does not say."""


class Interface:
    """Base class of what is known of another contract: methods marked `@call` or `@view`.

    Their bodies are `...`; names, order and types of arguments, and the result, are as over there.
    """

    _contract: str

    def __init_subclass__(cls) -> None:
        for name, item in list(vars(cls).items()):
            if hasattr(item, "_contract_kind"):
                setattr(cls, name, _Remote(name, item))


def at(name: str, interface: type[I], gas: int = 0) -> I:
    """Another contract by its name on chain, to call a method of at once.

    Args:
        gas: what the call may use at most; 0 leaves it all but a 64th of what is left.
    """
    found = object.__new__(interface)
    found._contract = name
    return found


class _Remote:
    """A method of an interface. No function, so that nothing takes its body for the code."""

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self._name = name
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, holder: Interface | None, owner: type[Interface]) -> Any:
        if holder is None:
            return self

        def run(*args: Any, **kwargs: Any) -> Any:
            return self._run(holder._contract, args, kwargs)

        return run

    def _run(self, contract: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        types, returns = method_types(self._method)
        given = inspect.signature(self._method).bind(None, *args, **kwargs).arguments
        data = b"".join(encode(kind, given[name], name) for name, kind in types)
        kind = self._method._contract_kind  # type: ignore[attr-defined]
        result = frame.current().call(contract, kind, self._name, data)
        try:
            return decode(returns, result)
        except CodecError as fault:
            raise MalformedResult(f"{contract}.{self._name}", fault.reason) from None
