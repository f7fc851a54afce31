"""Fixtures that every test may ask for."""

from tests.support.services import (
    api_database_url,
    database_url,
    empty_database_url,
    fresh_broker,
    kafka_broker,
    postgres_server,
    template_database,
)

__all__ = [
    "api_database_url",
    "database_url",
    "empty_database_url",
    "fresh_broker",
    "kafka_broker",
    "postgres_server",
    "template_database",
]
