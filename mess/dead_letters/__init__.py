"""Reads, selects and replays dead letters, for operators."""
