"""Recommendation strategies: pure functions over candidates."""
