"""The `chainnode` command: one module per noun, data to stdout, talk to stderr."""
