"""Opaque keyset cursors: the end of a page, and the listing that it belongs to."""

import base64
import binascii
import hashlib
from dataclasses import astuple

import orjson

from store.reads import Place, TrackFilter

_VERSION = 2


_MOST_TIERS = 100


class InvalidCursorError(ValueError):
    """The cursor is invalid, or belongs to another listing. The message is for the caller."""


def _listing(wanted: TrackFilter, space: str) -> str:
    return hashlib.blake2b(orjson.dumps((*astuple(wanted), space)), digest_size=6).hexdigest()


def encode_cursor(after: Place, wanted: TrackFilter, space: str) -> str:
    """A cursor for the page after `after` of the listing that `wanted` describes of a space."""
    packed = orjson.dumps([_VERSION, _listing(wanted, space), after.tier, after.track_id])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(cursor: str, wanted: TrackFilter, space: str) -> Place:
    """The last place of the page before.

    Raises:
        InvalidCursorError: It is no cursor, or was made for other filters or another space.
    """
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, listing, tier, after = orjson.loads(packed)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidCursorError("is not a cursor: take it from `next` of the page before") from None
    if version != _VERSION or not isinstance(after, str) or "\0" in after or not _is_tier(tier):
        raise InvalidCursorError("is not a cursor: take it from `next` of the page before")
    if listing != _listing(wanted, space):
        raise InvalidCursorError("belongs to a listing with other filters or of another space")
    return Place(after, tier)


def _is_tier(tier: object) -> bool:
    return isinstance(tier, int) and not isinstance(tier, bool) and 0 <= tier <= _MOST_TIERS
