"""Kafka: clients, topics and their copies, retries, received messages, dead letters."""
