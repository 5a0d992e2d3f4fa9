"""What a node never forgets: the block log, the state store, receipts, proofs and recovery."""
