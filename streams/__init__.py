"""Kafka topics, event contracts, the Faust app and its agents."""
