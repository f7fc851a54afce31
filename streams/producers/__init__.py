"""Producers: what publishes tracks to Kafka."""
