"""Generations of spaces: what their commands do."""
