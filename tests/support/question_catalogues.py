"""Random catalogues and questions: skewed composers, missing facts, near-duplicates, every kind of filter."""

from typing import Any

import numpy as np

from store.columns import METADATA_FIELDS
from store.rows import metadata_row
from streams.engine.types import EVENT, TrackBatch, no_events
from streams.recommender.popularity import ListFacts, Popularity
from streams.strategies import Caps, NearDuplicates, Query, Seed, filters, registry
from tests.support.metadata import NOTHING_KNOWN
from tests.support.question_oracle import Known

COMPOSERS = (
    "Bach",
    "bach ",
    "Bach",
    "Haydn",
    "Cage",
    "Ives",
    "Anonymous",
    "trad.",
    "Dvořák",
    "Dvorˇák",
    None,
)
ERAS = ("Baroque", "Classical", "Modern", None)
FORMS = ("fugue", "aria", "Reel", None)
TAGS = ("piano", "Organ", "sacred", "live")
DATES = ("2009", "2009-09", "2009-09-16", "2010-01-31", "1999-12", None)
EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"metre": "2/4"},
    {"metre": "3/4", "bpm": 120},
    {"bpm": "96.5", "live": True},
    {"moods": ["calm", "Sad"], "bpm": 60},
    {"filename": "a.mid", "deep": {"metre": "2/4"}},
)
TITLES = ("Sonata", "Sonata No. 1", "sonata nr 1", "Aria (live)", "Aria", "Reel", None)


def some_metadata(random: np.random.Generator) -> dict[str, Any]:
    """What a catalogue may say of a track; every field, None where it says nothing."""
    metadata: dict[str, Any] = {**NOTHING_KNOWN}
    common = random.random() < 0.5
    metadata |= {
        "title": TITLES[random.integers(len(TITLES))],
        "composer": "Bach" if common else COMPOSERS[random.integers(len(COMPOSERS))],
        "opus": random.choice(["1", "Op. 1", "2", ""]) or None,
        "artists": [f"Artist {int(n)}" for n in set(random.geometric(0.3, random.integers(0, 3)).tolist())],
        "album": None if random.random() < 0.3 else f"Album {int(random.geometric(0.2))}",
        "era": ERAS[random.integers(len(ERAS))],
        "form": FORMS[random.integers(len(FORMS))],
        "instrument": random.choice(["piano", "voices", ""]) or None,
        "year_composed": None if random.random() < 0.2 else int(random.integers(1600, 1620)),
        "duration_seconds": None if random.random() < 0.2 else float(random.integers(0, 50)) / 2,
        "recording_date": DATES[random.integers(len(DATES))],
        "tags": [TAGS[i] for i in sorted(set(random.integers(0, len(TAGS), random.integers(0, 4)).tolist()))],
        "extra": EXTRAS[random.integers(len(EXTRAS))],
    }
    return metadata


def some_tracks(random: np.random.Generator, count: int, dimension: int, first: int = 0) -> list[Known]:
    """Tracks with vectors in clusters; one in ten repeats another's, or nearly."""
    centres = random.standard_normal((6, dimension))
    vectors = centres[random.integers(0, 6, count)] + 0.7 * random.standard_normal((count, dimension))
    for i in np.flatnonzero(random.random(count) < 0.1).tolist():
        vectors[i] = vectors[random.integers(count)] + random.choice([0, 0.01]) * random.standard_normal(
            dimension
        )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    numbers = random.permutation(count) + first
    return [
        Known(f"t/{number:06}", some_metadata(random), vectors[i])
        for i, number in enumerate(numbers.tolist())
    ]


def batch_of(tracks: list[Known], gone: list[str], offset: int, dimension: int) -> TrackBatch:
    """What ingest tells of these tracks, and of ids that were withdrawn."""
    events = np.zeros(len(tracks), dtype=EVENT)
    events["offset"] = offset
    return TrackBatch(
        keys=np.array([track.key for track in tracks], dtype=np.int64),
        track_ids=[track.track_id for track in tracks],
        vectors=np.array([track.vector for track in tracks], dtype=np.float32).reshape(-1, dimension),
        events=events,
        deleted=np.array([Known(name, {}, np.empty(0)).key for name in gone], dtype=np.int64),
        deleted_events=np.repeat(np.zeros(1, dtype=EVENT), len(gone)) if gone else no_events(),
        metadata=[metadata_row(track.metadata[name] for name in METADATA_FIELDS) for track in tracks],
    )


def some_popularity(random: np.random.Generator, tracks: list[Known]) -> Popularity:
    """Of most tracks; one time in three nobody has listened to anything."""
    if random.random() < 1 / 3:
        return Popularity()
    keys = np.sort([track.key for track in tracks if random.random() < 0.8]).astype(np.int64)
    if not len(keys):
        return Popularity()
    probability = random.dirichlet(np.ones(len(keys) + 1))[:-1] + 1e-9
    return Popularity(
        1, keys, random.random(len(keys)), probability, random.random(len(keys)) < 0.3, (0.4, 1e-4)
    )


def some_facts(random: np.random.Generator, tracks: list[Known]) -> ListFacts:
    """Some tracks are held by many lists."""
    held, listed = (
        np.sort([track.key for track in tracks if random.random() < 0.9]).astype(np.int64) for _ in range(2)
    )
    return ListFacts(held, random.random(len(held)) ** 4, listed, random.uniform(0.2, 0.9, len(listed)))


def some_filters(random: np.random.Generator) -> dict[str, Any]:
    """None, one or two, of any kind."""
    year = int(random.integers(1600, 1620))
    kinds: tuple[dict[str, Any], ...] = (
        {"era": "baroque"},
        {"era": ["Baroque", "MODERN"]},
        {"composer": {"not": ["bach", "Anonymous"]}},
        {"composer": "Dvořák"},
        {"tags": {"all": ["piano", "organ"]}},
        {"tags": {"any": ["live", "sacred"], "not": ["piano"]}},
        {"year_composed": {"min": year}},
        {"year_composed": year},
        {"duration_seconds": {"min": 3.5, "max": 12}},
        {"recording_date": "2009"},
        {"recording_date": {"min": "2009-09-02", "max": "2010"}},
        {"recording_date": {"not": "2009-09"}},
        {"extra.metre": "2/4"},
        {"extra.bpm": {"min": 90}},
        {"extra.moods": "sad"},
        {"extra.live": True},
        {"extra.bpm": 60},
        {"title": {"not": ["Reel"]}},
        {"form": "nothing of this form"},
        {"album": {"any": ["album 1", "Album 2"]}},
        {"artist": {"any": ["artist 1", "Artist 3"], "not": "artist 2"}},
    )
    wanted: dict[str, Any] = {}
    for _ in range(int(random.integers(0, 3))):
        wanted |= kinds[random.integers(len(kinds))]
    return wanted


def some_question(random: np.random.Generator, tracks: list[Known], dimension: int) -> Query:
    """Seeds with weights or a vector, negatives, a strategy, filters, caps, exclusions, near-duplicates."""
    picks = random.permutation(len(tracks))[:8].tolist()
    seeds = [
        Seed(tracks[i].key, float(random.choice([0.5, 1.0, 3.0]))) for i in picks[: random.integers(1, 4)]
    ]
    negatives = [Seed(tracks[i].key) for i in picks[4 : 4 + (random.random() < 0.3)]]
    vector = random.standard_normal(dimension)
    by_vector = random.random() < 0.2
    modes = [(one.name, mode.name) for one in registry.STRATEGIES for mode in one.modes]
    # Half of all take the default.
    strategy, mode = ("similarity", None) if random.random() < 0.4 else modes[random.integers(len(modes))]
    pooled = strategy not in {"auto", "similarity"} and random.random() < 0.5
    cap = (None, None, 1, 2, 5)
    near = (
        None,
        None,
        NearDuplicates(),
        NearDuplicates(cosine=0.9),
        NearDuplicates(cosine=None, of_seeds=False),
    )
    return Query(
        seeds=() if by_vector else tuple(seeds),
        negatives=tuple(negatives),
        embedding=(vector / np.linalg.norm(vector)).astype(np.float32) if by_vector else None,
        strategy=strategy,
        mode=mode,
        parameters={"pool": int(random.choice([10, 40]))} if pooled else {},
        top_k=int(random.integers(1, 51)),
        exclude=frozenset(tracks[i].key for i in picks[5 : random.integers(5, 9)]),
        filters=filters.parse_filters(some_filters(random)),
        caps=Caps(
            *(cap[random.integers(len(cap))] for _ in range(3)),
            list_share=0.5 if random.random() < 0.1 else None,
            anonymous=bool(random.random() < 0.5),
        ),
        hub_correction=0.5 if random.random() < 0.1 else 0.0,
        near_duplicates=near[random.integers(len(near))],
        at_least=0 if random.random() < 0.4 else None,
        moment=1e9,
        user_context={"goal": "variety"} if random.random() < 0.1 else {},
    )
