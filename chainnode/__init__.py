"""A permissioned blockchain node that scores small businesses on encrypted data."""
