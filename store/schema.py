"""Tables of the materialised store, at the revision that `store.columns` says."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from streams.metadata_fields import LIST_FIELDS, TEXT_FIELDS

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tracks = Table(
    "tracks",
    metadata,
    Column("track_id", Text, primary_key=True),
    # A 64-bit hash of track_id, so that a list of fifty neighbours packs into 400 bytes.
    Column("key", BigInteger, nullable=False, unique=True),
    *(Column(name, Text) for name in TEXT_FIELDS),
    Column("year_composed", Integer),
    Column("duration_seconds", Float),
    Column("popular_rank", Float),
    *(Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'")) for name in LIST_FIELDS),
    Column("extra", JSONB, nullable=False, server_default=text("'{}'")),
    # Little-endian float32, unit length.
    Column("embedding", LargeBinary, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Folded words: see store/search_text.py.
    Column("search", TSVECTOR, nullable=False, server_default=text("''")),
    # When the broker appended the event, milliseconds since 1970; 0 if that is not known.
    Column("appended_at", BigInteger, nullable=False, server_default=text("0")),
    # Where the event before was, if that was another partition.
    Column("previous_partition", Integer),
    Index(None, "composer"),
    Index(None, "era"),
    Index(None, "form"),
    Index(None, "source_partition", "source_offset"),
    Index("ix_tracks_search", "search", postgresql_using="gin"),
    Index("ix_tracks_tags", "tags", postgresql_using="gin"),
)

# Words of tracks, to correct those of a search. One stays when the last track that had it is gone.
search_words = Table(
    "search_words",
    metadata,
    Column("word", Text, primary_key=True),
    # The word without each of its letters in turn: words one typo apart share one of these, or are one.
    Column("deletions", ARRAY(Text), nullable=False),
    Index("ix_search_words_deletions", "deletions", postgresql_using="gin"),
)

# One value a flush: a list's version tells which flush wrote it, and never goes back.
list_version = Sequence("list_version", metadata=metadata)

neighbour_lists = Table(
    "neighbour_lists",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("neighbours", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("version", BigInteger, nullable=False),
    # The event that changed the list last.
    Column("source_partition", SmallInteger, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("generated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("cardinality(neighbours) = cardinality(scores)", name="same_length"),
    # Half of each page is left free, so that every rewrite of a list is a heap-only update.
    postgresql_with={"fillfactor": "50"},
)

# Lists that have been replaced or dropped: see store/list_history.py.
list_history = Table(
    "list_history",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    # The version of the flush that replaced it, and when that was.
    Column("replaced_by", BigInteger, nullable=False),
    Column("replaced_at", DateTime(timezone=True), nullable=False),
    Column("generated_at", DateTime(timezone=True), nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("source_partition", SmallInteger, nullable=False),
    Column("neighbours", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Index(None, "replaced_at"),
)

# The last list that the change feed has of each track: see store/told.py.
told_lists = Table(
    "told_lists",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("feed_partition", Integer, nullable=False),
    Column("feed_offset", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    # Ids as the message has them, which may be of tracks that nobody knows any more, with a zero byte between.
    Column("neighbours", LargeBinary, nullable=False),
    postgresql_with={"fillfactor": "50", "toast_tuple_target": "8160"},
)

told_offsets = Table(
    "told_offsets",
    metadata,
    Column("owner_partition", Integer, primary_key=True, autoincrement=False),
    # By partition of the feed, that of partition 0 first: what was told of the owner's lists below it is in `told_lists`.
    Column("next_offsets", ARRAY(BigInteger), nullable=False),
    postgresql_with={"fillfactor": "50", "toast_tuple_target": "8160"},
)

# One value a change of a place, so that a reader can ask for what has changed since.
map_change = Sequence("map_change", metadata=metadata)

map_positions = Table(
    "map_positions",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("x", REAL, nullable=False),
    Column("y", REAL, nullable=False),
    Column("change", BigInteger, nullable=False, unique=True),
    # Found by a layout; else it is the weighted place of the track's neighbours.
    Column("settled", Boolean, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
)

ingest_partitions = Table(
    "ingest_partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    # The next offset to read: everything below it is in `tracks`.
    Column("consumed_offset", BigInteger, nullable=False, server_default=text("0")),
    # The newest version of a list of this partition's tracks whose change has been delivered to the change feed.
    Column("published_version", BigInteger, nullable=False, server_default=text("0")),
    # How often the log has been replaced by another one, whose offsets mean something else.
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# One row an owner: rows by owner and source would be the square of the partitions, written with every flush. The view
# `absorbed_offsets` shows them so.
owner_progress = Table(
    "owner_progress",
    metadata,
    Column("owner_partition", Integer, primary_key=True, autoincrement=False),
    # By source partition, that of partition 0 first: the owner's stored lists hold the effect of everything below it.
    Column("absorbed", ARRAY(BigInteger), nullable=False),
    postgresql_with={"fillfactor": "50", "toast_tuple_target": "8160"},
)

# Deletions that workers which follow the partition may not have seen yet, or that an older event of the track may come
# after, from another partition: a deleted track leaves no row of its own.
departures = Table(
    "departures",
    metadata,
    Column("source_partition", Integer, primary_key=True, autoincrement=False),
    Column("source_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("key", BigInteger, nullable=False),
    Column("appended_at", BigInteger, nullable=False, server_default=text("0")),
    Column("departed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index(None, "key"),
)

# Tracks whose last event is of another partition than the one before, until every worker has seen that.
moves = Table(
    "moves",
    metadata,
    Column("to_partition", Integer, primary_key=True, autoincrement=False),
    Column("to_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("from_partition", Integer, primary_key=True, autoincrement=False),
    Column("key", BigInteger, nullable=False),
    Index(None, "key"),
)

# Withdrawn tracks whose tombstone has not reached the change feed yet.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("track_id", Text, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
)

catalogue = Table(
    "catalogue",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("dimension", Integer, nullable=False),
    # Of each named part of the vectors its name, size and weight, in the order of the components; null: there are none.
    Column("aspects", JSONB),
    # The name of the model that makes the vectors; null: no event has said.
    Column("model", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("only_row = 1", name="one_row"),
    CheckConstraint("dimension > 0", name="positive_dimension"),
)

# One model's vectors of a space each: see store/generations.py. All but the first have the tables above, and those of
# materialised responses and workers, in a schema of their own.
generations = Table(
    "generations",
    metadata,
    Column("space", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # The model that makes its vectors and the weights of their aspects, if that was said at its creation.
    Column("model", Text),
    Column("weights", Text),
    # Whether readers of the space get its lists.
    Column("serving", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("retired_at", DateTime(timezone=True)),
    # When it last ceased to serve: a rollback goes to the last of them.
    Column("served_until", DateTime(timezone=True)),
    CheckConstraint("NOT (serving AND retired_at IS NOT NULL)", name="state"),
    Index("ix_generations_serving", "space", unique=True, postgresql_where=text("serving")),
)

# Interactions that can be told from others, so that a second delivery of one counts no more.
interactions = Table(
    "interactions",
    metadata,
    Column("identity", LargeBinary, primary_key=True),
    Column("key", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # They come in the order of time, and are forgotten in it.
    Index("ix_interactions_received_at", "received_at", postgresql_using="brin"),
)

interaction_offsets = Table(
    "interaction_offsets",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    # Everything below this offset of track-interactions is in `popularity`.
    Column("next_offset", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# One value a batch of interactions: it tells whether anybody has listened since.
popularity_version = Sequence("popularity_version", metadata=metadata)

popularity = Table(
    "popularity",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    # Sums of weights and of decay factors, decayed to `reference`, seconds since the epoch.
    Column("value", Float, nullable=False),
    Column("count", Float, nullable=False),
    Column("reference", Float, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

materialised_recommendations = Table(
    "materialised_recommendations",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("strategy", Text, primary_key=True),
    # Empty where the strategy has none.
    Column("mode", Text, primary_key=True),
    # 0 for the defaults, else a hash of everything else that was asked, which `question` holds.
    Column("variant", BigInteger, primary_key=True, autoincrement=False),
    Column("question", JSONB, nullable=False, server_default=text("'{}'")),
    # JSON without the members that change from one delivery to the next, and its entity tag.
    Column("body", LargeBinary, nullable=False),
    Column("tag", Text, nullable=False),
    # The tracks that the body names.
    Column("members", ARRAY(BigInteger), nullable=False),
    # What it was made from. No list version: the track had no list yet. No popularity version: it does not count.
    Column("list_version", BigInteger),
    Column("popularity_version", BigInteger),
    # From when on a newer popularity makes it stale.
    Column("popularity_due", DateTime(timezone=True)),
    # How far the catalogue had come in what it was searched for in, by partition: null where only the stored list counts;
    # and from when on a catalogue that has gone on makes it stale.
    Column("searched", JSONB),
    Column("searched_due", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    # Something that it says of a track is not so any more.
    Column("outdated", Boolean, nullable=False, server_default=text("false")),
    Column("generated_at", DateTime(timezone=True), nullable=False),
    Column("hits", BigInteger, nullable=False, server_default=text("0")),
    Column("last_hit", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Binary logarithm of the hits, each counting twice as much as one an hour before: never decayed, only added to.
    Column("heat", Float, nullable=False),
    Index("ix_materialised_recommendations_members", "members", postgresql_using="gin"),
    Index(None, "heat"),
    postgresql_with={"fillfactor": "70"},
)

# Callers of the API. A key's secret is told once, and only its digest is kept.
api_keys = Table(
    "api_keys",
    metadata,
    # The part of a key that may be shown; it names the row.
    Column("prefix", Text, primary_key=True),
    # SHA-256 of the whole key.
    Column("digest", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    # For example `100/minute`; null for what the API's settings say.
    Column("rate_limit", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    # Grows with every change to any key, so that one look tells whether there was one.
    Column("version", BigInteger, nullable=False, unique=True),
    CheckConstraint("octet_length(digest) = 32", name="sha256"),
)

# Dead letters that have been dealt with, by their coordinates in dead-letters.
handled_letters = Table(
    "handled_letters",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    # The message's own timestamp, in milliseconds: tells it from one at the same offset of a topic made anew.
    Column("written_at", BigInteger, primary_key=True, autoincrement=False),
    Column("action", Text, nullable=False),
    Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("action IN ('replayed', 'dropped')", name="known_action"),
)

# Starts and ends of workers: see store/lives.py.
worker_lives = Table(
    "worker_lives",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("worker", Text, nullable=False),
    # As it claims partitions: name and process.
    Column("owner", Text, nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # When it last held a partition.
    Column("owning_at", DateTime(timezone=True)),
    Column("stalled_seconds", Float, nullable=False, server_default=text("0")),
    Column("ended_at", DateTime(timezone=True)),
    # None where it was asked to end.
    Column("error", Text),
    # By partition that it held, the next offset to read when it ended.
    Column("offsets", JSONB, nullable=False, server_default=text("'{}'")),
    # The message that was last worked on alone.
    Column("trial_partition", Integer),
    Column("trial_offset", BigInteger),
    # What it last said of its work: see streams/maintenance/heartbeat.py.
    Column("figures", JSONB, nullable=False, server_default=text("'{}'")),
    # Where it answers questions, and what it wants to be shown by who asks.
    Column("questions_url", Text),
    Column("questions_token", Text),
)

# What the API's role may read; it may write nothing.
READABLE = (
    worker_lives,
    tracks,
    search_words,
    neighbour_lists,
    list_history,
    map_positions,
    ingest_partitions,
    owner_progress,
    catalogue,
    generations,
    withdrawals,
    popularity,
    popularity_version,
    materialised_recommendations,
    api_keys,
)
