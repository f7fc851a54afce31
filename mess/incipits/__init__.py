"""How the works of the demo catalogue begin, derived on the user's machine from the corpus that music21 carries."""
