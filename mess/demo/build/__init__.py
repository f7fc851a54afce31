"""Rebuilds the demo catalogue from the music21 corpus; needs the extra `demo-build`, never used at run time."""
