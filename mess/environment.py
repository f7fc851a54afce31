"""Checks the environment: settings, secrets of production, and the services."""

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from serving.settings import ServingSettings
from store.errors import StoreError
from store.layouts import fetch_layout
from store.pool import open_pool, require_schema
from store.poolers import require_session
from store.settings import StoreSettings
from streams.errors import StreamsError
from streams.kafka.topics import topic_differences
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings, StreamSettings

PRODUCTION: Final = "MESS_PRODUCTION"
# Minimum length of a secret in production.
SECRET_CHARACTERS: Final = 16
# Freshness, expiry and `--since` are wrong by the difference of clocks; more than this is reported.
SKEW_SECONDS: Final = 2.0

_DEFAULTS: Final = (
    "change-me",
    "changeme",
    "development",
    "postgres",
    "admin",
    "messmess",
    "1234567890",
    "qwerty",
    "letmein",
)
_TELLTALES: Final = ("password", "secret", "example")
SETTINGS: Final[tuple[type[BaseSettings], ...]] = (
    StoreSettings,
    KafkaSettings,
    StreamSettings,
    RecommenderSettings,
    ServingSettings,
)


def in_production(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether MESS_PRODUCTION marks a production environment."""
    return environment.get(PRODUCTION, "").strip().lower() in {"1", "true", "yes", "on"}


def settings_problems() -> list[str]:
    """Every setting of every part that is missing or wrong, a line each."""
    lines: dict[str, None] = {}
    for settings in SETTINGS:
        try:
            settings()
        except ValidationError as error:
            prefix = settings.model_config.get("env_prefix", "")
            for each in error.errors(include_url=False, include_input=False):
                name = prefix + "_".join(str(part) for part in each["loc"]).upper()
                message = each["msg"].removeprefix("Value error, ")
                lines[f"{name}: {'is not set' if each['type'] == 'missing' else message}"] = None
    return list(lines)


def secret_problems(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Every secret that is missing or guessable, and settings that production must not have, a line each."""
    lines = _database_problems(environment)
    by_password = environment.get("MESS_KAFKA_SASL_MECHANISM") != "OAUTHBEARER"
    if environment.get("MESS_KAFKA_SECURITY_PROTOCOL", "").startswith("SASL_") and by_password:
        lines += _secret_lines("MESS_KAFKA_SASL_PASSWORD", environment)
    return lines


def _secret_lines(name: str, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with a secret that stands in a variable, or in the file that NAME_FILE names."""
    secret = environment.get(name, "")
    if path := environment.get(f"{name}_FILE"):
        name += "_FILE"
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            return [f"{name}: {path} cannot be read: {error.strerror}"]
    return [f"{name}: {wrong}" for wrong in _complaints(secret)]


def _database_problems(environment: Mapping[str, str]) -> list[str]:
    url = environment.get("MESS_DATABASE_URL", "")
    if not url:
        return ["MESS_DATABASE_URL: is not set"]
    try:
        parts = urlsplit(url)
        password = unquote(parts.password or "")
    except ValueError:
        return ["MESS_DATABASE_URL: is no URL"]
    if environment.get("MESS_DATABASE_PASSWORD_FILE"):
        return _secret_lines("MESS_DATABASE_PASSWORD", environment)
    if password:
        return [f"MESS_DATABASE_URL: its password {wrong}" for wrong in _complaints(password)]
    # A local socket, certificates, password files and tokens need no password in the URL.
    others = ("MESS_DATABASE_IAM_REGION", "PGPASSFILE", "PGSSLCERT")
    if not parts.hostname or any(environment.get(name) for name in others):
        return []
    return [f"PGPASSWORD: {wrong}" for wrong in _complaints(environment.get("PGPASSWORD", ""))]


def _complaints(secret: str) -> list[str]:
    """The defects of a secret, which itself is not shown."""
    lowered = secret.lower()
    if not secret:
        return ["is not set"]
    if lowered.startswith(_DEFAULTS) or any(word in lowered for word in _TELLTALES) or len(set(secret)) < 5:
        return ["is a default or easily guessed"]
    if len(secret) < SECRET_CHARACTERS:
        return [f"has {len(secret)} characters, {SECRET_CHARACTERS} are the least"]
    return []


async def service_problems(*, api: bool) -> list[str]:
    """The problems that Postgres and the broker reveal, a line each. The settings must be valid.

    Args:
        api: Whether MESS_DATABASE_URL is for the API, whose role must not be able to write.
    """
    store, broker = await asyncio.gather(_store_problems(api=api), _broker_problems())
    return store + broker


async def _store_problems(*, api: bool) -> list[str]:
    settings = StoreSettings().model_copy(update={"pool_min_size": 0, "pool_max_size": 2})
    streams = StreamSettings()
    wanted, weights = streams.embedding_dimension, streams.aspect_shares
    try:
        async with await open_pool(settings, application_name="mess-check-env", read_only=True) as pool:
            await require_session(pool)
            await require_schema(pool)
            began = time.time()
            theirs: datetime = await pool.fetchval("SELECT clock_timestamp()")
            skew = theirs.timestamp() - (began + time.time()) / 2
            layout = await fetch_layout(pool)
            writes = await pool.fetchval("SELECT has_table_privilege('tracks', 'UPDATE')")
    except StoreError as error:
        return [f"MESS_DATABASE_URL: {error}"]
    lines = []
    if abs(skew) > SKEW_SECONDS:
        lines.append(
            f"clock: Postgres's is {skew:+.1f} s from this machine's, {datetime.now(UTC):%H:%M:%S} UTC"
        )
    dimension = None if layout is None else layout.dimension
    own = None if layout is None else {name: weight for name, _, weight in layout.aspects}
    if None not in (own, weights) and own != weights:
        lines.append(f"MESS_ASPECT_WEIGHTS: means {weights}, and the catalogue keeps {own}")
    if None not in (dimension, wanted) and dimension != wanted:
        lines.append(
            f"MESS_EMBEDDING_DIMENSION: is {wanted}, and the catalogue has {dimension}: no event would be accepted"
        )
    model = None if layout is None else layout.model
    if None not in (model, streams.embedding_model) and model != streams.embedding_model:
        lines.append(
            f"MESS_EMBEDDING_MODEL: is {streams.embedding_model}, and the catalogue's embeddings are of {model}, which stays"
        )
    if api and writes:
        lines.append("MESS_DATABASE_URL: its role can write, and the API only reads: give it `mess_api`'s")
    if not api and not writes:
        lines.append("MESS_DATABASE_URL: its role cannot write; workers need the schema owner's")
    return lines


async def _broker_problems() -> list[str]:
    try:
        return [f"topics: {line}" for line in await topic_differences(KafkaSettings(), StreamSettings())]
    except StreamsError as error:
        return [f"MESS_KAFKA_BOOTSTRAP_SERVERS: {error}"]
