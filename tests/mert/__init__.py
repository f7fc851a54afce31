"""MERT, run by transformers: `make mert-test`, in an environment of its own."""
