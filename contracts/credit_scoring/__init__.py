"""Lets editors and type checkers read this folder as a package; the compiler does not read it."""
