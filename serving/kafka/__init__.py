"""The API's Kafka clients: log ends and the change feed."""
