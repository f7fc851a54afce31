"""What a connection logs in to Postgres with: read or made anew for each, so that a rotated one is taken up."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PasswordSource = Callable[[], Awaitable[str]]

POSTGRES_PORT = 5432


def from_file(path: Path) -> PasswordSource:
    """The content of a file, without the white space around it.

    The source raises OSError where the file cannot be read: a connection that cannot be made, which is tried again.
    """

    async def read() -> str:
        return (await asyncio.to_thread(path.read_text, encoding="utf-8")).strip()

    return read


def from_iam(dsn: str, region: str) -> PasswordSource:
    """A token of IAM for the host, port and user of a URL, signed with AWS's own chain of credentials.

    The source raises OSError where there are no credentials.
    """
    url = urlsplit(dsn)
    sign = functools.partial(
        _sign_token, url.hostname or "", url.port or POSTGRES_PORT, unquote(url.username or ""), region
    )
    return functools.partial(asyncio.to_thread, sign)


def _sign_token(host: str, port: int, user: str, region: str) -> str:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 -- of the extra `aws`

    try:
        token: str = _client(region).generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user)
    except BotoCoreError as error:
        raise OSError(f"no token of IAM for {user}: {error}") from error
    return token


@functools.lru_cache(maxsize=1)
def _client(region: str) -> Any:
    import boto3  # noqa: PLC0415 -- of the extra `aws`

    return boto3.client("rds", region_name=region)
