"""Independent SIP peers that the running edge is tested with: one module per peer (docs/testing.md)."""
