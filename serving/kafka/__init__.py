"""The API's side of Kafka: questions to workers, their discovery, the change feed."""
