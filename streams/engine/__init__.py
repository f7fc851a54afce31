"""The neighbour engine: vectors and neighbour lists. No Kafka, no SQL, no HTTP."""
