"""SIGTERM and SIGINT: remembered until the run is at a place where it can be saved."""

import signal
from types import FrameType
from typing import Self


class Interrupt:
    """Within the context, the first signal is only noted; a second one acts as usual.

    Attributes:
      number: the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
