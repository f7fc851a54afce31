"""The API's side of Kafka: how far the log has grown, and the change feed."""
