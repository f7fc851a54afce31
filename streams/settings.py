"""Settings of the Kafka clients and of the streams."""

import re
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.generations import DEFAULT_SPACE, MAX_NUMBER, SPACE_PATTERN, GenerationName
from streams.spans import parse_span
from streams.strategies.aspects import LEAST_SHARE, parse_weights

_SERVER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class KafkaSettings(BaseSettings):
    """How every client reaches the brokers (environment: MESS_KAFKA_...)."""

    model_config = SettingsConfigDict(env_prefix="MESS_KAFKA_", env_ignore_empty=True, frozen=True)

    bootstrap_servers: str = Field(
        title="Bootstrap servers",
        description="host:port, several separated by commas",
        examples=["127.0.0.1:9092"],
    )
    security_protocol: SecurityProtocol = Field("PLAINTEXT", title="Security protocol")
    sasl_mechanism: SaslMechanism = Field(
        "PLAIN", title="SASL mechanism", description="OAUTHBEARER logs in to Amazon MSK by IAM"
    )
    sasl_username: str | None = Field(None, title="SASL user")
    sasl_password: SecretStr | None = Field(None, title="SASL password")
    sasl_password_file: Path | None = Field(
        None,
        title="File with the SASL password",
        description="Read again for each new connection, so that a rotated password needs no restart",
    )
    iam_region: str | None = Field(
        None,
        title="AWS region of brokers that are logged in to by IAM",
        description="For OAUTHBEARER; needs `mess-ai[aws]`",
        examples=["eu-central-1"],
    )
    ssl_cafile: Path | None = Field(None, title="CA certificates", description="PEM; the system's if not set")
    ssl_certfile: Path | None = Field(
        None,
        title="Client certificate",
        description="PEM, for mutual TLS; read again for each new connection",
    )
    ssl_keyfile: Path | None = Field(
        None, title="Client key", description="PEM; in the certificate's file if not set"
    )
    ssl_keyfile_password: SecretStr | None = Field(None, title="Password of the client key")
    ssl_check_hostname: bool = Field(True, title="Check the broker's host name against its certificate")
    client_id: str = Field("mess", title="Client id", description="Shown in the brokers' logs and metrics")
    request_timeout_ms: int = Field(20_000, ge=1_000, le=300_000, title="Request timeout in milliseconds")
    compression: Literal["auto", "gzip", "lz4", "zstd", "snappy", "none"] = Field(
        "auto",
        title="Compression of producers",
        description="auto: gzip, which every client reads; none for published tracks, whose vectors hardly shrink",
    )
    idempotence: bool | None = Field(
        None, title="Idempotent producer", description="Not set: used where the broker offers it"
    )
    replication_factor: int = Field(1, ge=1, le=32_767, title="Replicas of topics that mess creates")
    min_insync_replicas: int | None = Field(
        None,
        ge=1,
        title="Replicas that must have a write before it counts, of topics that mess creates",
        description="Not set: 2 of 3 or more replicas, else 1",
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, value: str) -> str:
        servers = [part.strip() for part in value.split(",") if part.strip()]
        for server in servers:
            matched = _SERVER.fullmatch(server)
            if matched is None or not 0 < int(matched[1]) < 65_536:
                raise ValueError(f"{server!r} is not host:port")
        if not servers:
            raise ValueError("names no broker")
        return ",".join(servers)

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if self.uses_iam:
            self._check_iam()
        elif self.uses_sasl and (self.sasl_username is None or not self._has_password):
            raise ValueError(
                f"{self.security_protocol} needs MESS_KAFKA_SASL_USERNAME, and MESS_KAFKA_SASL_PASSWORD or "
                "MESS_KAFKA_SASL_PASSWORD_FILE"
            )
        if (self.min_insync_replicas or 1) > self.replication_factor:
            raise ValueError(
                f"MESS_KAFKA_MIN_INSYNC_REPLICAS is {self.min_insync_replicas}, and there are "
                f"{self.replication_factor} replicas (MESS_KAFKA_REPLICATION_FACTOR): nothing could be written"
            )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("MESS_KAFKA_SSL_KEYFILE needs MESS_KAFKA_SSL_CERTFILE")
        return self

    def _check_iam(self) -> None:
        if self.security_protocol != "SASL_SSL":
            raise ValueError("OAUTHBEARER sends tokens: MESS_KAFKA_SECURITY_PROTOCOL must be SASL_SSL")
        if self.iam_region is None:
            raise ValueError("OAUTHBEARER needs MESS_KAFKA_IAM_REGION")
        if find_spec("aws_msk_iam_sasl_signer") is None:
            raise ValueError("OAUTHBEARER needs further packages: pip install 'mess-ai[aws]'")

    @property
    def _has_password(self) -> bool:
        if self.sasl_password_file is None:
            return self.sasl_password is not None
        try:
            return bool(self.sasl_password_file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(f"MESS_KAFKA_SASL_PASSWORD_FILE cannot be read: {error.strerror}") from None

    @property
    def uses_iam(self) -> bool:
        """Whether clients log in by tokens of AWS's IAM."""
        return self.uses_sasl and self.sasl_mechanism == "OAUTHBEARER"

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def servers(self) -> list[str]:
        """The bootstrap servers, each as host:port."""
        return self.bootstrap_servers.split(",")


def check_aspect_weights(text: str) -> None:
    """Check the weights of a catalogue's aspects.

    Raises:
        ValueError: They cannot be meant; the message goes after the name of the field.
    """
    shares = parse_weights(text)
    if len(shares) <= text.count(",") or min(shares.values()) < LEAST_SHARE:
        raise ValueError(f"must all be above 0, at least {LEAST_SHARE} of their sum")


class StreamSettings(BaseSettings):
    """What the streams keep to (environment: MESS_...)."""

    model_config = SettingsConfigDict(env_prefix="MESS_", env_ignore_empty=True, frozen=True)

    @model_validator(mode="after")
    def _check_aspects(self) -> Self:
        if self.aspect_weights is None:
            return self
        if self.embedding_dimension is not None:
            raise ValueError(
                "MESS_EMBEDDING_DIMENSION is for embeddings without aspects, not with MESS_ASPECT_WEIGHTS"
            )
        try:
            check_aspect_weights(self.aspect_weights)
        except ValueError as error:
            raise ValueError(f"MESS_ASPECT_WEIGHTS {error}") from None
        return self

    @field_validator("list_history")
    @classmethod
    def _check_list_history(cls, text: str) -> str:
        if text != "0" and parse_span(text) is None:
            raise ValueError("must be 0 or a span such as 90s, 30m, 12h, 7d")
        return text

    @property
    def list_history_kept(self) -> timedelta:
        """How long lists are kept that have been replaced; zero: not at all."""
        return parse_span(self.list_history) or timedelta()

    @property
    def generation_name(self) -> GenerationName:
        """The generation whose lists this worker keeps."""
        return GenerationName(self.space, self.generation)

    @property
    def aspect_shares(self) -> dict[str, float] | None:
        """The weight of each aspect, which sum to 1; None where they are not set."""
        return None if self.aspect_weights is None else parse_weights(self.aspect_weights)

    embedding_dimension: int | None = Field(
        None,
        ge=1,
        le=16_384,
        title="Dimension of the catalogue's embeddings",
        description="Not set: the first accepted track fixes it",
    )
    embedding_model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name of the model that makes the catalogue's embeddings",
        description="Events that name another are refused. Not set: what the first accepted track says. A catalogue "
        "whose tracks named none takes this name",
        examples=["musicnn-msd-1"],
    )
    aspect_weights: str | None = Field(
        None,
        title="Aspects of the catalogue's embeddings, and how much each counts",
        description="As `name:weight,...`; fixed by the first track, which must have these aspects. "
        "Not set: any, of equal weight",
        examples=["rhythm:2,melody:1"],
    )
    ingest_partitions: int = Field(8, ge=1, le=1_024, title="Partitions of track-ingest when it is created")
    list_size: int = Field(50, ge=1, le=50, title="Neighbours published for each track")
    list_kept: int = Field(
        100,
        ge=1,
        le=1_000,
        title="Neighbours kept for each track",
        description="The slack that deletes use up before a list has to be completed",
    )
    list_history: str = Field(
        "0",
        title="How long lists are kept that have been replaced",
        description="For `as_of` questions, as 90s, 30m, 12h, 7d; 0: not at all. Each list that is written is then written "
        "twice",
        examples=["7d"],
    )
    batch_events: int = Field(512, ge=1, le=4_096, title="Events in a micro-batch at most")
    exact_upto: int = Field(
        200_000,
        ge=0,
        title="Tracks up to which a new one is compared with all at once",
        description="In a larger catalogue with the likely ones; the others follow in idle time",
    )
    bootstrap: Literal["engine", "pynndescent"] = Field(
        "engine",
        title="What finds the first lists of a catalogue that comes whole",
        description="The engine's own products and cells, or pynndescent's neighbour graph, which the engine completes; "
        "the lists are the same in the end",
    )
    batch_seconds: float = Field(0.02, gt=0, le=5, title="Seconds from one micro-batch to the next, at least")
    feed_window_seconds: float = Field(
        1.0, ge=0, le=3_600, title="Seconds in which the change feed tells of a track at most once"
    )
    sampled_lists_per_second: float = Field(
        2.0, ge=0, le=1_000, title="Lists a second that are computed afresh to measure recall; 0 for none"
    )
    map_layout: bool = Field(
        True,
        title="Whether tracks are laid out on a map",
        description="A layout takes half a gigabyte, and a processor at the lowest priority, for seconds to minutes",
    )
    consumer_group: str = Field(
        "mess-worker",
        title="Consumer group of the workers",
        description="That of another generation than the first has its name behind it",
    )
    space: str = Field(DEFAULT_SPACE, pattern=SPACE_PATTERN, title="Space of this worker's generation")
    generation: int = Field(1, ge=1, le=MAX_NUMBER, title="Number of this worker's generation")
    worker_name: str = Field(
        "worker",
        title="Name of this worker",
        description="Shown as owner of its partitions; give each worker its own",
    )
    data_dir: Path | None = Field(
        None,
        title="Directory of this worker's own",
        description="Keeps a snapshot of its engine and compiled code, for a quick start; not set: every start reads "
        "all vectors from Postgres",
    )
    snapshot_seconds: float = Field(
        60.0, gt=0, le=86_400, title="Seconds from one snapshot of the engine to the next"
    )
    worker_host: str = Field("127.0.0.1", title="Address of the worker's metrics and liveness")
    worker_port: int = Field(8_001, ge=0, le=65_535, title="Port of the worker's metrics and liveness")
    worker_url: str | None = Field(
        None,
        title="URL at which the API reaches this worker",
        description="Not set: address and port above, or this machine's name where the address is any",
        pattern=r"^https?://[^/?#]+$",
        examples=["http://10.0.0.7:8001"],
    )
    worker_log_format: Literal["json", "console"] = Field("json", title="Form of the worker's log lines")
    worker_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", title="Minimum level that the worker logs"
    )
    session_timeout_seconds: float = Field(
        10.0, ge=1, le=300, title="Seconds without a heartbeat after which a worker has lost its partitions"
    )
