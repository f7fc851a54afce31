"""What the catalogue says of each work: titles, composers, forms and places, from the corpus's own headers."""
