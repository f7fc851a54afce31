"""Every error the store raises."""


class StoreError(Exception):
    """Something in the store went wrong."""


class StoreUnavailableError(StoreError):
    """Postgres cannot be reached, or it dropped the connection: try again."""


class SchemaMismatchError(StoreError):
    """The database schema is not the one this version was written for."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found = found
        self.expected = expected
        has = f"is at revision {found}" if found else "has no schema"
        super().__init__(f"the database {has}; this version needs {expected}: run `mess migrate`")


class PoolerError(StoreError):
    """There is a connection pooler before Postgres that cannot be worked with."""

    def __init__(
        self, why: str = "it gives each transaction another session (pool_mode=transaction)"
    ) -> None:
        super().__init__(
            f"there is a pooler before Postgres, and {why}: name Postgres itself in MESS_DATABASE_URL, or a pooler with "
            "pool_mode=session and ignore_startup_parameters=jit,default_transaction_read_only,idle_session_timeout"
        )


class FencedError(StoreError):
    """Another worker has claimed the partition since: this one must not write."""

    def __init__(self, partition: int, epoch: int) -> None:
        self.partition = partition
        self.epoch = epoch
        super().__init__(f"partition {partition} is no longer held under epoch {epoch}")


class TrackRejectedError(StoreError):
    """Postgres refuses this track; a retry will not help."""
