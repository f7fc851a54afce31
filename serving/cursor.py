"""Opaque keyset cursors: where a page ended, and which listing it belongs to."""

import base64
import binascii
import hashlib
from dataclasses import astuple

import orjson

from store.reads import TrackFilter

_VERSION = 1


class InvalidCursorError(ValueError):
    """The cursor is not one of ours, or belongs to another listing. The message is for the caller."""


def _listing(wanted: TrackFilter) -> str:
    return hashlib.blake2b(orjson.dumps(astuple(wanted)), digest_size=6).hexdigest()


def encode(after: str, wanted: TrackFilter) -> str:
    """A cursor for the page behind the track `after` of the listing that `wanted` describes."""
    packed = orjson.dumps([_VERSION, _listing(wanted), after])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(cursor: str, wanted: TrackFilter) -> str:
    """The track id that `cursor` stands behind.

    Raises:
        InvalidCursorError: It isn't a cursor of ours, or it was made under other filters.
    """
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, listing, after = orjson.loads(packed)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidCursorError("is not a cursor: take it from `next` of the page before") from None
    if version != _VERSION or not isinstance(after, str) or "\0" in after:
        raise InvalidCursorError("is not a cursor: take it from `next` of the page before")
    if listing != _listing(wanted):
        raise InvalidCursorError("belongs to a listing with other filters")
    return after
