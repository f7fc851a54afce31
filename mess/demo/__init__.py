"""The demo catalogue: symbolic works from music21's corpus."""
