"""The API's client of the workers, and its directory of them."""
