"""An engine without a process of its own: `EngineProcess` as it is, but for the pipe."""

from typing import Any

from streams.engine.exact import ExactEngine
from streams.engine.process import EngineCallError, EngineProcess


class EngineInProcess(EngineProcess):
    """Calls an exact engine here. What `EngineProcess` makes of calls and their errors stays."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self._engine = ExactEngine(dimension)

    async def start(self) -> None:
        """Nothing is started."""

    async def stop(self) -> None:
        """Nothing is stopped."""

    async def _call(self, name: str, *arguments: object) -> Any:
        try:
            return getattr(self._engine, name)(*arguments)
        except Exception as error:
            raise EngineCallError(f"{type(error).__name__}: {error}") from error
