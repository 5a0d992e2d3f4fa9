"""TPC-H Q1, Q6, Q12 and Q14 on encrypted columns, each equal to DuckDB on the plaintext.

The data comes from PyPI `tpchgen-cli` (extra `tpch`). LINEITEM is joined with ORDERS and PART
before encryption, and `l_late` is decided by the owner, as ArcEDB's own benchmark does; dates, bin
edges and constants are public.
"""
