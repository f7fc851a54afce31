"""The metadata of a track, and how its many spellings are read."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from streams.contracts import artists, cleaning, dates, identifiers
from streams.metadata_fields import LIST_FIELDS, METADATA, FieldKind, MetadataField

# Postgres takes no b-tree key above 2,704 bytes. A term stays well below, together with a track id.
_TERM_BYTES: Final = 600
_TEXT_BYTES: Final = 2_000
_MAX_LISTED: Final = 256

_Listed = tuple[str, ...]
_TYPES: Final[dict[FieldKind, Any]] = {
    FieldKind.TEXT: Annotated[str | None, BeforeValidator(cleaning.text_reader(_TEXT_BYTES))],
    FieldKind.TERM: Annotated[str | None, BeforeValidator(cleaning.text_reader(_TERM_BYTES))],
    FieldKind.UUID: Annotated[str | None, BeforeValidator(identifiers.parse_uuid)],
    FieldKind.ISRC: Annotated[str | None, BeforeValidator(identifiers.parse_isrc)],
    FieldKind.DATE: Annotated[str | None, BeforeValidator(dates.partial_date)],
    FieldKind.YEAR: Annotated[
        Annotated[int, Field(ge=-3000, le=9999)] | None, BeforeValidator(dates.parse_year)
    ],
    FieldKind.SECONDS: Annotated[
        Annotated[float, Field(ge=0, le=1e8)] | None, BeforeValidator(dates.parse_duration)
    ],
    FieldKind.NUMBER: Annotated[float | None, BeforeValidator(cleaning.parse_number)],
    FieldKind.LIST: Annotated[_Listed, BeforeValidator(cleaning.parse_tags)],
    FieldKind.ARTISTS: Annotated[_Listed, BeforeValidator(artists.credited_artists)],
    FieldKind.UUIDS: Annotated[_Listed, BeforeValidator(identifiers.parse_uuids)],
}
# Key of the validation context: whether an unreadable value is an error.
STRICT: Final = "strict"
# The key of `extra` that holds unreadable values.
RAW: Final = "raw"


def _field(field: MetadataField) -> Any:
    said: dict[str, Any] = {"description": field.description, "examples": [field.example]}
    if field.name in LIST_FIELDS:
        return _TYPES[field.kind], Field((), max_length=_MAX_LISTED, **said)
    return _TYPES[field.kind], Field(None, **said)


_Known: Any = create_model("_Known", **{field.name: _field(field) for field in METADATA})


class TrackMetadata(_Known):  # its fields are those of `METADATA`
    """Catalogue facts of one track. Every key may be absent.

    Empty strings, `NaN`, `None` and the usual spellings of "missing" (`N/A`, `null`, ...) become
    absent values. A value that its key cannot hold is kept unchanged in `extra.raw.<key>`.

    A validation with the context `{STRICT: True}` refuses such a value and names its key.
    """

    # `_read` has moved other keys to `extra` before this rule applies.
    model_config = ConfigDict(
        frozen=True, extra="forbid", title="TrackMetadata", json_schema_extra={"additionalProperties": True}
    )

    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Further facts: any JSON, at most 64 KiB. Unknown keys are kept here, "
        "and unreadable values under `raw`, by their key",
        examples=[{"filename": "Bach_BWV849-01_001_20090916-SMD.wav"}],
    )

    @model_validator(mode="wrap")
    @classmethod
    def _read(
        cls, data: Any, read: ModelWrapValidatorHandler["TrackMetadata"], info: ValidationInfo
    ) -> "TrackMetadata":
        if not isinstance(data, Mapping):
            return read(data)
        strict = bool(info.context and info.context.get(STRICT))
        known, unread = {name: value for name, value in data.items() if name in _KNOWN}, {}
        artists.completed_artists(known)
        extra, bad = _extra(data)
        if not strict:
            unread = bad
        elif bad:
            name, (_, problem) = next(iter(bad.items()))
            # Pydantic cannot carry a lone surrogate in a message.
            raise ValueError(f"{name[:60].encode(errors='backslashreplace').decode()}: {problem}")
        try:
            return read({**known, "extra": _with_raw(extra, unread)})
        except ValidationError as error:
            wrong = {str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"]}
            if strict or not wrong or "extra" in wrong:
                raise
            unread |= {name: (known.pop(name), "") for name in sorted(wrong)}
        artists.completed_artists(known)
        return read({**known, "extra": _with_raw(extra, unread)})

    def present(self) -> dict[str, Any]:
        """The keys that have a value, `extra` included, as in an event."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.__dict__.items()
            # Empty lists and an empty `extra` are left out; a number may be zero.
            if value or (value is not None and isinstance(value, int | float))
        }

    @property
    def unread(self) -> tuple[str, ...]:
        """The keys with unreadable values, which are kept in `extra.raw`."""
        raw = self.extra.get(RAW)
        return tuple(raw) if isinstance(raw, dict) else ()


# Unreadable values by key: the value, and the reason.
_Unread = dict[str, tuple[Any, str]]


def _extra(data: Mapping[Any, Any]) -> tuple[dict[str, Any], _Unread]:
    """Everything beyond the known fields as JSON, and what JSON cannot hold."""
    nested = data.get("extra")
    unread: _Unread = {}
    if not isinstance(nested, Mapping):
        if not cleaning.is_missing(nested):
            unread["extra"] = (nested, "must be an object")
        nested = {}
    unknown = {
        name: value
        for name, value in data.items()
        if name not in _KNOWN and name != "extra" and not cleaning.is_missing(value)
    }
    clean: dict[str, Any] = {}
    for name, value in {**nested, **unknown}.items():
        try:
            clean[cleaning.extra_key(name)] = cleaning.extra_json(value)
        except ValueError as error:
            unread[str(name)] = (value, str(error))
    return clean, unread


def _with_raw(extra: dict[str, Any], unread: _Unread) -> dict[str, Any]:
    """`extra` with the unreadable values under `raw`.

    Raises:
        ValueError: it is too large.
    """
    if unread:
        before = extra.get(RAW, {})
        before = before if isinstance(before, dict) else {RAW: before}
        kept = {cleaning.storable_key(name): cleaning.as_stored(value) for name, (value, _) in unread.items()}
        extra = {**extra, RAW: {**before, **kept}}
    cleaning.check_extra_size(extra)
    return extra


_KNOWN: Final = frozenset(field.name for field in METADATA)
