"""The store's own settings."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.passwords import from_file, from_iam

_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Those under which nothing is sent before the connection is encrypted.
_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")


class StoreSettings(BaseSettings):
    """Where Postgres is and how it is used."""

    model_config = SettingsConfigDict(env_prefix="MESS_", extra="ignore", env_ignore_empty=True)

    database_url: SecretStr = Field(
        title="Postgres URL",
        description="postgresql://user:password@host:port/database; TLS as libpq has it: "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem, and sslcert, sslkey",
    )
    database_password_file: Path | None = Field(
        default=None,
        title="File with the password for Postgres",
        description="Read again for each new connection, so that a rotated password needs no restart; "
        "the URL's password is not used then",
    )
    database_iam_region: str | None = Field(
        default=None,
        title="AWS region of a Postgres that is logged in to by IAM",
        description="Each new connection has a token for the URL's host and user instead of a password; "
        "needs `mess-ai[aws]`",
        examples=["eu-central-1"],
    )
    pool_min_size: int = Field(default=1, ge=0, title="Connections kept open")
    pool_max_size: int = Field(default=8, ge=1, title="Connections at most")
    command_timeout: float = Field(default=30.0, gt=0, title="Seconds a statement may take")
    connect_timeout: float = Field(default=10.0, gt=0, title="Seconds a connection may take to open")

    @field_validator("database_url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        # Error messages must not repeat the URL: it may hold a password.
        url = urlsplit(value.get_secret_value())
        if url.scheme not in _SCHEMES:
            raise ValueError("must begin with postgresql://")
        if parse_qs(url.query).get("sslmode", ["prefer"])[-1] not in _TLS_MODES:
            raise ValueError(f"sslmode must be one of {', '.join(_TLS_MODES)}")
        return value

    @model_validator(mode="after")
    def _check_iam(self) -> Self:
        if self.database_iam_region is None:
            return self
        if find_spec("boto3") is None:
            raise ValueError("MESS_DATABASE_IAM_REGION needs further packages: pip install 'mess-ai[aws]'")
        query = parse_qs(urlsplit(self.database_url.get_secret_value()).query)
        if query.get("sslmode", [""])[-1] not in _ENCRYPTED:
            raise ValueError(
                "MESS_DATABASE_IAM_REGION sends tokens: MESS_DATABASE_URL needs ?sslmode=verify-full"
            )
        return self

    @property
    def connect_options(self) -> dict[str, Any]:
        """What `asyncpg.connect` and `create_pool` take to reach Postgres and log in."""
        options: dict[str, Any] = {"dsn": self.dsn}
        if self.database_iam_region is not None:
            options["password"] = from_iam(self.dsn, self.database_iam_region)
        elif self.database_password_file is not None:
            options["password"] = from_file(self.database_password_file)
        return options

    def of_schema(self, schema: str | None) -> Self:
        """These settings for the tables of another schema, in front of the usual ones; None: the same."""
        if schema is None:
            return self
        url = self.database_url.get_secret_value()
        path = f"search_path={schema}%2Cpublic"
        return self.model_copy(
            update={"database_url": SecretStr(f"{url}{'&' if urlsplit(url).query else '?'}{path}")}
        )

    @property
    def dsn(self) -> str:
        """The URL as asyncpg takes it."""
        return self.database_url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)
