"""The API's paths, one module a subject; each registers its own with `register(app)`."""
