"""The public services: authorised by TLS certificate, failures as one Problem envelope."""
