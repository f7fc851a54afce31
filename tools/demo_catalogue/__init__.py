"""Rebuilds the demo catalogue from the music21 corpus; needs the extra `demo-build`. Not in the wheel."""
