"""How good are the recommendations? Every strategy, held against labels it has not seen, chance and popularity."""
