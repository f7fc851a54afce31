"""Event contracts: what travels on each topic, how it is read, and why it is refused.

The models describe the contracts (the AsyncAPI document is generated from them); the `parse_*`
functions are the door that every event passes. They raise `InvalidEvent` and nothing else.
"""

from streams.events.dead_letters import (
    HEADER_DETAIL,
    HEADER_ERROR,
    HEADER_FAILED_AT,
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    dead_letter_headers,
    read_dead_letter_headers,
)
from streams.events.door import MAX_EVENT_BYTES, check_track_id
from streams.events.interactions import Interaction, InteractionType, parse_interaction
from streams.events.lists import ListChange, ScoredTrack, SourceOffset, encode_list_change
from streams.events.metadata import TrackMetadata
from streams.events.reasons import InvalidEvent, Reason
from streams.events.recommendations import (
    Problem,
    Recommendation,
    RecommendationBody,
    RecommendationReply,
    RecommendationRequest,
    Seed,
    SourcePosition,
    parse_request,
)
from streams.events.tracks import (
    MAX_DIMENSION,
    EncodedEmbedding,
    TrackDelete,
    TrackEvent,
    TrackUpsert,
    encode_track,
    parse_track_event,
    read_track_event,
    track_key,
    unit_vector,
)

__all__ = [
    "HEADER_DETAIL",
    "HEADER_ERROR",
    "HEADER_FAILED_AT",
    "HEADER_SOURCE_OFFSET",
    "HEADER_SOURCE_PARTITION",
    "HEADER_SOURCE_TOPIC",
    "MAX_DIMENSION",
    "MAX_EVENT_BYTES",
    "EncodedEmbedding",
    "Interaction",
    "InteractionType",
    "InvalidEvent",
    "ListChange",
    "Problem",
    "Reason",
    "Recommendation",
    "RecommendationBody",
    "RecommendationReply",
    "RecommendationRequest",
    "ScoredTrack",
    "Seed",
    "SourceOffset",
    "SourcePosition",
    "TrackDelete",
    "TrackEvent",
    "TrackMetadata",
    "TrackUpsert",
    "check_track_id",
    "dead_letter_headers",
    "encode_list_change",
    "encode_track",
    "parse_interaction",
    "parse_request",
    "parse_track_event",
    "read_dead_letter_headers",
    "read_track_event",
    "track_key",
    "unit_vector",
]
