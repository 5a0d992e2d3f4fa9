"""The contract compiler: a typed subset of Python to WebAssembly, ahead of time."""

from chainnode.contract.compiler.diagnostics import CompileError, Diagnostic
from chainnode.contract.compiler.driver import COMPILER, Compiled, compile_path, compile_source

__all__ = ["COMPILER", "CompileError", "Compiled", "Diagnostic", "compile_path", "compile_source"]
