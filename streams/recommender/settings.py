"""The recommender's settings."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RecommenderSettings(BaseSettings):
    """Sizes, windows and budgets (environment: MESS_RECOMMENDER_...)."""

    model_config = SettingsConfigDict(env_prefix="MESS_RECOMMENDER_", env_ignore_empty=True, frozen=True)

    concurrent_requests: int = Field(16, ge=1, le=1_000, title="Requests that are worked on at the same time")
    popularity_window_seconds: float = Field(
        10.0,
        gt=0,
        le=86_400,
        title="Seconds for which popularity may be older than the newest interaction",
    )
    searched_window_seconds: float = Field(
        10.0,
        gt=0,
        le=86_400,
        title="Seconds for which a kept recommendation may be older than what changed beyond its track's list",
    )
    random_window_seconds: float = Field(
        3_600.0, gt=0, le=31_536_000, title="Seconds for which `random` keeps its answer"
    )
    half_life_days: float = Field(30.0, gt=0, le=36_500, title="Days after which an interaction counts half")
    remembered_interactions_days: float = Field(
        35.0, gt=0, le=36_500, title="Days for which a second delivery of an interaction is known as one"
    )
    kept_bodies: int = Field(
        100_000, ge=0, le=100_000_000, title="Materialised recommendations kept; 0 keeps none"
    )
    refreshes_per_second: float = Field(
        10.0,
        ge=0,
        le=10_000,
        title="Stale materialised recommendations computed anew in the background, the most requested first; 0 for none",
    )
    min_offset_wait_seconds: float = Field(
        1.0, ge=0, le=60, title="Seconds that a request waits for the event that it names"
    )
