"""Errors of the streams room."""


class StreamsError(Exception):
    """Base of what this room raises on purpose; its text is one line for people."""


class BrokerUnavailable(StreamsError):  # noqa: N818 - a state, as people say it
    """No Kafka broker answered, or it refused this client's credentials."""


class SkippedMessagesError(StreamsError):
    """Messages of a partition were dropped on their way here: to go on with later ones would lose them."""


class TopicError(StreamsError):
    """A topic cannot be created or used as it is configured."""
