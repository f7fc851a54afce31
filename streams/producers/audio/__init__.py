"""Recordings as a source of tracks: decoded, embedded by a network, described by their own tags."""
