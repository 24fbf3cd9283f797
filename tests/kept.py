"""A feature store of a test's own, and what had to be computed for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jtl.frozen import cache, features, store


class Kept:
    """A folder, and how many examples were run at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.computed: list[int] = []

    def forget(self) -> None:
        """What this process has in memory; what follows is as in another one."""
        features.Prefix._stores.clear()
        store._in_use.clear()
        self.computed.clear()

    def shards(self) -> list[Path]:
        return sorted(self.place.glob(f"*/*{cache.SUFFIX}"))

    def names(self) -> set[str]:
        return {path.parent.name for path in self.shards()}


@contextmanager
def keeping(place: Path) -> Iterator[Kept]:
    """What frozen blocks give is kept there, and counted."""
    made, run = Kept(place), features.streamed

    def counting(function: Any, inputs: Any, **settings: Any) -> Any:
        made.computed.append(len(inputs))
        return run(function, inputs, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.PLACE, str(place))
        patch.setenv(cache.LIMIT, "1")
        patch.setattr(features, "streamed", counting)
        yield made
    made.forget()
