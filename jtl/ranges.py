"""What a value in a config may be, besides of its default's type."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Range(NamedTuple):
    """Some values, and how to say which.

    >>> COUNT.holds(0), COUNT.meaning
    (False, '1 or more')
    """

    holds: Callable[[Any], bool]
    meaning: str


NATURAL = Range(lambda value: value >= 0, "0 or more")
COUNT = Range(lambda value: value >= 1, "1 or more")
POSITIVE = Range(lambda value: value > 0, "greater than 0")
INSIDE = Range(lambda value: 0 < value < 1, "above 0 and below 1")
FRACTION = Range(lambda value: 0 <= value < 1, "at least 0 and below 1")
SHARE = Range(lambda value: 0 <= value <= 1, "from 0 to 1")
FACTOR = Range(lambda value: 0 < value <= 1, "above 0, and 1 at most")
SEED = Range(lambda value: 0 <= value < 2**31, "from 0 to 2147483647")
STEPS = Range(lambda value: 1 <= value < 2**31, "from 1 to 2147483647")
BATCH = Range(lambda value: 1 <= value <= 2**20, "from 1 to 1048576")
SIDE = Range(lambda value: 0 <= value <= 4096, "from 0 to 4096 pixels")
# A square matrix of this width takes 1 GiB.
WIDTH = Range(lambda value: 1 <= value <= 16384, "from 1 to 16384")
BOTTLENECK = Range(lambda value: 0 <= value <= 16384, "from 0 to 16384")
FLAG = Range(lambda value: True, "true or false")


def one_of(*names: str) -> Range:
    """These words and no others.

    >>> one_of("dann", "cdan").meaning
    'dann or cdan'
    """
    return Range(lambda value: value in names, " or ".join(names))
