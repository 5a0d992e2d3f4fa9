"""Homomorphic queries: schema, encodings, scorecards, SQL planner, plans and the engine.

`schema` describes a table, `encode` turns rows into slot blocks, `scorecard` holds integer models,
`sql` plans and explains a query, `plan` is the canonical result, `engine` computes and reads it.
"""
