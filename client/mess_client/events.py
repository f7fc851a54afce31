"""Server-sent events, from bytes as they come."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream."""

    event: str
    data: str
    id: str


class EventDecoder:
    """Makes events of bytes, however these are cut (the rules are those of the HTML standard, section 9.2.6).

    Lines end at CR, LF or both alone: other characters that Python takes for ends of lines may stand in a track id.

    Attributes:
        last_event_id: The id of the last event; what to come back with.
        retry: Seconds after which the server wants one to come back, where it has said so.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._rest = b""
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are complete with these bytes."""
        # A CR at the end may be the first half of a CRLF: it waits for what follows.
        whole = self._rest + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        lines = whole[: len(whole) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        return [event for line in lines if (event := self._line(line.decode(errors="replace"))) is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        if self._id is not None:
            self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data, self._id = "", [], None
        return ServerEvent(event, "\n".join(data), self.last_event_id) if data else None
