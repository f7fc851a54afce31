"""The API's side of the workers: who there is, and questions to them."""
