"""The `mess` command: settings, wiring, and the local stack."""
