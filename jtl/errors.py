"""The one exception a user sees: a single line saying what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. The message is one line: what, where, what to do.

    The command line prints it after ``jtl:`` and exits with code 2; it never shows a traceback.
    """


class DivergedError(UserError):
    """A run came to numbers that are not finite; the same run would again."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory. A device says so in an error of XLA's."""
    exhausted = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)


MANY = 40
"""Of more names than these, the rest is counted."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Names close matches, for the end of an error message.

    >>> nearest("sead", ["seed", "steps"])
    'did you mean seed?'
    >>> nearest("zzz", ["seed", "steps"])
    'valid: seed, steps'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if len(names) > MANY:
        return f"valid: {', '.join(names[:MANY])} and {len(names) - MANY} more"
    return "valid: " + ", ".join(names) if names else "nothing is valid here"
