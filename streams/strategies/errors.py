"""What can be wrong with a question or with the arrays that come with it."""


class StrategyError(ValueError):
    """Base of everything raised here on purpose."""


class InvalidQuery(StrategyError):  # noqa: N818 -- named as the question it refuses, like InvalidEvent
    """What was asked cannot be meant; one line for the caller, with the name of what is wrong.

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
    """The strategy needs an array that the calling code did not bring, such as the candidates' vectors."""
