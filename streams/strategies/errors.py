"""Errors of questions and of their arrays."""


class StrategyError(ValueError):
    """Base of the strategies' errors."""


class InvalidQuery(StrategyError):  # noqa: N818 -- named as the question it refuses, like InvalidEvent
    """The question is invalid; one line for the caller, which names the field.

    Attributes:
        field: The parameter, filter or option at fault.
        reason: What is wrong with it, without its name.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type["InvalidQuery"], tuple[str, str]]:
        return InvalidQuery, (self.field, self.reason)


class MissingData(StrategyError):  # noqa: N818 -- says what is wrong already
    """The strategy needs an array that the caller did not pass, such as the candidates' vectors."""
