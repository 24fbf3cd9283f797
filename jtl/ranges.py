"""What a number in a config may be."""

from collections.abc import Callable
from typing import NamedTuple


class Range(NamedTuple):
    """Some numbers, and how to say which.

    >>> COUNT.holds(0), COUNT.meaning
    (False, '1 or more')
    """

    holds: Callable[[float], bool]
    meaning: str


NATURAL = Range(lambda value: value >= 0, "0 or more")
COUNT = Range(lambda value: value >= 1, "1 or more")
POSITIVE = Range(lambda value: value > 0, "greater than 0")
INSIDE = Range(lambda value: 0 < value < 1, "above 0 and below 1")
FRACTION = Range(lambda value: 0 <= value < 1, "at least 0 and below 1")
FACTOR = Range(lambda value: 0 < value <= 1, "above 0, and 1 at most")
SEED = Range(lambda value: 0 <= value < 2**31, "from 0 to 2147483647")
