"""The scores of music21's corpus: where they are, and what is read of them."""
