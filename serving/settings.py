"""The API's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serving.rates import RequestRate
from streams.generations import GenerationName


class ServingSettings(BaseSettings):
    """How the API listens, what it accepts and what it logs. Environment variables begin with MESS_API_."""

    model_config = SettingsConfigDict(
        env_prefix="MESS_API_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = Field(default="127.0.0.1", title="Address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, title="Port to listen on; 0 takes a free one")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1, title="Bytes a request body may have")
    # The maximum is the limit of the HTTP parser.
    max_url_bytes: int = Field(
        default=32 * 1024, ge=256, le=65_535, title="Bytes a path with its query may have"
    )
    max_connections: int = Field(
        default=1_000, ge=16, title="Connections open at most; fewer where files are limited"
    )
    head_timeout: float = Field(
        default=10.0, gt=0, title="Seconds that a request's headers may take, or a new connection without any"
    )
    body_timeout: float = Field(default=30.0, gt=0, title="Seconds that a request's body may take")
    write_timeout: float = Field(
        default=30.0, gt=0, title="Seconds a caller may accept nothing of an answer; then it is cut off"
    )
    keep_alive: int = Field(default=30, ge=1, title="Seconds an idle connection is kept after an answer")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), title="Origins whose pages may read the API, separated by commas; * for all"
    )
    require_keys: bool = Field(default=False, title="Whether callers need a key, made by `mess keys create`")
    key_refresh: float = Field(
        default=2.0, gt=0, le=60, title="Seconds after which a change to keys has taken effect"
    )
    key_rate_limit: str | None = Field(
        default=None, title="What a key may ask for that has no rate of its own, e.g. 100/second"
    )
    address_rate_limit: str | None = Field(
        default=None, title="What an address may ask for without a valid key, e.g. 20/second"
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        title="Addresses and networks of proxies whose X-Forwarded-For and -Proto are believed, separated by commas",
    )
    store_timeout: float = Field(default=5.0, gt=0, title="Seconds a read of the store may take")
    shutdown_timeout: int = Field(default=10, ge=1, title="Seconds that requests in flight get at shutdown")
    health_ttl: float = Field(
        default=1.0, ge=0, title="Seconds that counts and lag are kept for health reports"
    )
    broker_timeout: float = Field(default=2.0, gt=0, title="Seconds a health report waits for the broker")
    lag_degraded: int = Field(
        default=10_000, ge=0, title="Consumer lag, in events, above which health is degraded"
    )
    memory_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        title="Bytes that ready answers of a space may take in memory; 0 keeps none",
    )
    track_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        title="Bytes that tracks of a space may take in memory, ready for the lists that name them; 0 keeps none",
    )
    watch_interval: float = Field(
        default=0.05, gt=0, le=5, title="Seconds between looks at how far the store has come"
    )
    request_timeout: float = Field(
        default=5.0, gt=0, le=300, title="Seconds that workers may take to answer a request"
    )
    max_requests: int = Field(
        default=1_000, ge=1, title="Requests to the workers under way at most, however fast workers are"
    )
    min_offset_wait: float = Field(
        default=1.0, ge=0, le=60, title="Seconds a read waits for the event that min_offset names"
    )
    max_streams: int = Field(default=256, ge=0, title="Streams of events open at most")
    stream_backlog: int = Field(
        default=1_000, ge=1, title="Events kept for a stream whose reader is behind; then it ends"
    )
    stream_backlog_bytes: int = Field(
        default=512 * 1024, ge=1, title="Bytes that these events may take; then the stream ends"
    )
    stream_stall: float = Field(
        default=30.0, gt=0, title="Seconds a stream waits for its reader to take anything; then it is cut off"
    )
    stream_lifetime: float = Field(
        default=3600.0, gt=0, title="Seconds after which a stream ends, for its reader to come back"
    )
    stream_ping: float = Field(default=15.0, gt=0, title="Seconds after which an idle stream sends a comment")
    changes_topic: str = Field(default="recommendations", title="Topic of the change feed")
    ingest_topic: str = Field(default="track-ingest", title="Topic the lists are computed from")
    incipits: Path | None = Field(
        default=None, title="File of incipits that the local stack derives; none without it"
    )
    log_format: Literal["json", "console"] = Field(default="json", title="Form of log lines")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", title="Minimum log level")
    access_log: bool = Field(default=True, title="Whether each request is logged")

    @field_validator("key_rate_limit", "address_rate_limit")
    @classmethod
    def _check_rate(cls, value: str | None) -> str | None:
        if value is not None:
            RequestRate.parse(value)
        return value

    @property
    def key_rate(self) -> RequestRate | None:
        """The usual rate of a key; None for no limit."""
        return None if self.key_rate_limit is None else RequestRate.parse(self.key_rate_limit)

    @property
    def address_rate(self) -> RequestRate | None:
        """The rate of an address; None for no limit."""
        return None if self.address_rate_limit is None else RequestRate.parse(self.address_rate_limit)

    def topic_of(self, generation: GenerationName) -> str:
        """The topic that a generation's lists are computed from."""
        return self.ingest_topic if generation.is_first else generation.topic

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value
