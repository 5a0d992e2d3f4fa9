"""What applications use: a client of the chain, and of the encrypted query service."""
