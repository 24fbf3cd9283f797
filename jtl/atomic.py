"""Files that are there as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jtl.errors import UserError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to, which takes its place once all of it is written.

    Raises:
      UserError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
