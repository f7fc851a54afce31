"""Producers, which publish tracks to Kafka."""
