"""What one would write without `mess publish`: pyarrow's rows as JSON to librdkafka. Nothing is checked, counted or mapped."""

import sys

import confluent_kafka
import orjson
import pyarrow.parquet as pq


def main(path: str, bootstrap_servers: str) -> None:
    """Send each row of a Parquet file; its columns are an id, a vector and metadata."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5})
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1_000):
        for row in batch.to_pylist():
            event = {"track_id": row.pop("track_id"), "embedding": row.pop("embedding"), "metadata": row}
            producer.produce("track-ingest", orjson.dumps(event), key=event["track_id"].encode())
        # The queue of librdkafka holds 100,000 messages.
        producer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
