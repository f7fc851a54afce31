"""Recommendations on request: from a question to a list with reasons, and the bodies that are kept ready."""
