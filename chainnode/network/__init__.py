"""Links between nodes: gRPC over mutual TLS, bounded queues, reconnection with back-off."""
