"""The store's own settings."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """Where Postgres is and how it is used."""

    model_config = SettingsConfigDict(env_prefix="MESS_", extra="ignore")

    database_url: SecretStr = Field(
        title="Postgres URL",
        description="postgresql://user:password@host:port/database",
    )
    pool_min_size: int = Field(default=1, ge=0, title="Connections kept open")
    pool_max_size: int = Field(default=8, ge=1, title="Connections at most")
    command_timeout: float = Field(default=30.0, gt=0, title="Seconds a statement may take")
    connect_timeout: float = Field(default=10.0, gt=0, title="Seconds a connection may take to open")

    @property
    def dsn(self) -> str:
        """The URL as asyncpg takes it."""
        return self.database_url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)

    @property
    def sqlalchemy_url(self) -> str:
        """The URL as SQLAlchemy's asyncpg dialect takes it."""
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
