"""Answers requests for recommendations, and maintains materialised responses."""
