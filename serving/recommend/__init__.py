"""The answer to a read: from memory, from the store, or asked of a worker."""
