"""Streaming protocols that others have made, for this engine and its peers."""
