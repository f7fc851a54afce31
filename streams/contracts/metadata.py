"""What a catalogue says of a track, and how its many spellings are read."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from streams.contracts import cleaning

# Postgres keeps no b-tree key above 2,704 bytes: what is filtered on stays well below, beside a track id.
_TERM_BYTES: Final = 600
_TEXT_BYTES: Final = 2_000

Term = Annotated[str | None, BeforeValidator(cleaning.text(_TERM_BYTES))]
Text = Annotated[str | None, BeforeValidator(cleaning.text(_TEXT_BYTES))]
PartialDate = Annotated[str | None, BeforeValidator(cleaning.partial_date)]
Year = Annotated[Annotated[int, Field(ge=-3000, le=9999)] | None, BeforeValidator(cleaning.year)]
Seconds = Annotated[Annotated[float, Field(ge=0, le=1e8)] | None, BeforeValidator(cleaning.seconds)]
Number = Annotated[float | None, BeforeValidator(cleaning.number)]
Tags = Annotated[tuple[str, ...], BeforeValidator(cleaning.tags)]


class TrackMetadata(BaseModel):
    """Catalogue facts of one track. Every key may be absent.

    Empty strings, `NaN`, `None` and the usual spellings of "missing" (`N/A`, `null`, ...) become
    absent values; a value of a type that a key cannot mean is an error that names the key.
    """

    # Other keys are welcome: they are gathered in `extra` before this rule is asked.
    model_config = ConfigDict(
        frozen=True, extra="forbid", title="TrackMetadata", json_schema_extra={"additionalProperties": True}
    )

    title: Text = Field(None, description="Title of the track", examples=["Fugue in D minor"])
    composer: Term = Field(
        None, description="Composer, short form: the one that is filtered on", examples=["Bach"]
    )
    composer_full: Text = Field(None, description="Composer in full", examples=["Johann Sebastian Bach"])
    opus: Term = Field(None, description="Opus or catalogue number", examples=["BWV 849"])
    movement: Term = Field(None, description="Movement number", examples=["1"])
    movement_name: Text = Field(None, description="Movement name", examples=["Prelude"])
    era: Term = Field(None, description="Era", examples=["Baroque"])
    form: Term = Field(None, description="Musical form", examples=["fugue"])
    key_signature: Term = Field(None, description="Key", examples=["C# minor"])
    tempo_marking: Term = Field(None, description="Tempo marking", examples=["Andante"])
    performer_id: Term = Field(None, description="Performer's identifier in its source", examples=["001"])
    performer_name: Text = Field(None, description="Performer", examples=["Glenn Gould"])
    instrument: Term = Field(None, description="Instrument", examples=["piano"])
    ensemble: Text = Field(None, description="Ensemble", examples=["string quartet"])
    recording_date: PartialDate = Field(
        None,
        description="Date of recording, ISO 8601, as precise as known: YYYY, YYYY-MM or YYYY-MM-DD. "
        "Read also from DD.MM.YYYY, YYYYMMDD, MM/DD/YYYY, `September 16, 2009` and date-times",
        examples=["2009-09-16"],
    )
    year_composed: Year = Field(None, description="Year of composition; the first of a span", examples=[1722])
    duration_seconds: Seconds = Field(
        None, description="Duration in seconds; read also from m:ss and h:mm:ss", examples=[191.5]
    )
    dataset_source: Term = Field(None, description="Data set or collection", examples=["smd"])
    dataset_version: Term = Field(None, description="Version of the data set", examples=["2.0"])
    tags: Tags = Field((), description="Tags; read also from text with commas or semicolons", max_length=256)
    difficulty_level: Term = Field(None, description="Difficulty", examples=["advanced"])
    popular_rank: Number = Field(None, description="Popularity as the source ranks it", examples=[12])
    artist: Text = Field(None, description="Artist", examples=["Amandine Beyer"])
    album: Text = Field(None, description="Album", examples=["Sonatas and Partitas"])
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Whatever else the catalogue says: any JSON, at most 64 KiB. Unknown keys land here",
        examples=[{"filename": "Bach_BWV849-01_001_20090916-SMD.wav"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_unknown_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, value in data.items():
            if name in _KNOWN:
                known[name] = value
            elif not cleaning.is_missing(value):
                unknown[name] = value
        nested = data.get("extra")
        if not cleaning.is_missing(nested):
            if not isinstance(nested, Mapping):
                raise ValueError("extra: must be an object")
            unknown = {**nested, **unknown}
        known["extra"] = cleaning.free_form(unknown) if unknown else {}
        return known

    def present(self) -> dict[str, Any]:
        """Return the keys that have a value, `extra` included, as they travel in an event."""
        values = {name: value for name, value in self.__dict__.items() if value not in (None, (), {})}
        if self.tags:
            values["tags"] = list(self.tags)
        return values


_KNOWN: Final = frozenset(TrackMetadata.model_fields)
