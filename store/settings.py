"""The store's own settings."""

from typing import Final
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SCHEMES: Final = ("postgresql", "postgres", "postgresql+asyncpg")
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class StoreSettings(BaseSettings):
    """Where Postgres is and how it is used."""

    model_config = SettingsConfigDict(env_prefix="MESS_", extra="ignore")

    database_url: SecretStr = Field(
        title="Postgres URL",
        description="postgresql://user:password@host:port/database; TLS as libpq has it: "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem, and sslcert, sslkey",
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

    @property
    def dsn(self) -> str:
        """The URL as asyncpg takes it."""
        return self.database_url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)
