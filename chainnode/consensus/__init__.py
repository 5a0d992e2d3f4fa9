"""Consensus engines as pure state machines: events in, effects out, no clock and no socket."""
