"""Answers reads: from memory, from the store, or by a worker."""
