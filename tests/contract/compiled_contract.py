"""The compiled form of a contract class, from the files it was imported from."""

import inspect
import sys
from pathlib import Path

from chainnode.contract import Contract
from chainnode.contract.compiler import Compiled, compile_path, compile_source


def compiled(contract: type[Contract] | str) -> Compiled:
    """Compile a class from its files; one made from a text, or a text, from that."""
    if isinstance(contract, str):
        return compile_source(contract)
    module = sys.modules[contract.__module__]
    file = Path(module.__file__ or "")
    if file.is_file():
        return compile_path(file)
    return compile_source(inspect.getsource(module))
