"""The words after ``jtl`` where it trains, runs a study or compares backbones; reads no file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jtl.errors import UserError, nearest
from jtl.shell import commands

FLAGS = ("--workdir", "--debug_nans", "--workers", "--help", "--version", "--config.KEY=VALUE")
RANK, PROBE = "rank", "probe"
COMMANDS = (RANK, PROBE, "test", *commands.COMMANDS)
"""What may stand where else a file does."""


class Workers(NamedTuple):
    """Who makes the runs of a study.

    Attributes:
      total: how many processes; 0 is as many as suit the machine.
      number: which of them this one is; 0 is the one that has the others started.
      on_ray: are they tasks of a Ray cluster?
    """

    total: int = 0
    number: int = 0
    on_ray: bool = False


class Command(NamedTuple):
    """What the user asked for.

    Attributes:
      spec: the config or the study, or "rank" or "probe".
      named: with these two, the data and the backbones.
      workers: of a study; None where nothing is said of them.
    """

    spec: str
    settings: tuple[str, ...]
    workdir: Path | None
    debug_nans: bool
    named: tuple[str, ...] = ()
    workers: Workers | None = None

    def again(self, workdir: Path) -> tuple[str, ...]:
        """The same command for another process, without its workers."""
        settings = (f"--config.{setting}" for setting in self.settings)
        nans = ("--debug_nans",) if self.debug_nans else ()
        return (self.spec, *self.named, *settings, *nans, f"--workdir={workdir}")


def parse(argv: Sequence[str]) -> Command:
    """Reads the arguments; reads no file.

    Raises:
      UserError: an unknown flag, a stray argument, or a flag without its value.
    """
    spec, workdir, workers, settings, debug_nans, named = None, None, None, [], False, []
    rest = iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag == "--workdir":
            if workdir is not None:
                raise UserError("--workdir is given twice")
            workdir = value if equals else next(rest, "")
            if not workdir or workdir.startswith("--"):
                raise UserError("--workdir has no value; write --workdir DIR")
        elif flag == "--workers":
            if workers is not None:
                raise UserError("--workers is given twice")
            workers = _workers(value if equals else next(rest, ""))
        elif flag == "--debug_nans":
            if equals:
                raise UserError(f"--debug_nans takes no value; {word} gives it one")
            debug_nans = True
        elif flag.startswith("--config."):
            settings.append(word.removeprefix("--config."))
        elif word.startswith("-"):
            raise UserError(f"unknown flag {flag}; {_flag_hint(flag)}")
        elif spec is None:
            spec = word
        elif spec in (RANK, PROBE):
            named.append(word)
        else:
            check_command(spec)
            hint = f"--config.{word}" if equals else "--config.key=value"
            raise UserError(f"stray argument {word!r} after {spec}; settings are written {hint}")
    if spec is None:
        raise UserError("no config file; the first argument is CONFIG.py")
    place = Path(workdir) if workdir else None
    return Command(spec, tuple(settings), place, debug_nans, tuple(named), workers)


def _workers(value: str) -> Workers:
    """Reads ``N``, ``K/N``, ``ray`` or ``ray:N``."""
    found = re.fullmatch(r"(?:(\d+)/)?(\d+)|ray(?::(\d+))?", value)
    if found:
        number, count, tasks = (None if part is None else int(part) for part in found.groups())
        if value.startswith("ray") and tasks != 0:
            return Workers(tasks or 0, on_ray=True)
        if count and (number is None or 1 <= number <= count):
            return Workers(count, number or 0)
    raise UserError(
        f"--workers {value}: write N (so many processes here), K/N (this one is the Kth of N, "
        "from 1 on, that share the folder), ray or ray:N"
    )


def check_command(spec: str) -> None:
    """That what stands in a file's place is no mistyped command."""
    hint = nearest(spec, COMMANDS)
    if hint.startswith("did you mean") and not Path(spec).exists():
        raise UserError(f"no file and no command {spec}; {hint}")


def _flag_hint(flag: str) -> str:
    from jtl.configuration import overrides
    from jtl.defaults import defaults

    keys = [f"--config.{key}" for key, _ in overrides.walk(defaults())]
    named = f"--config.{flag.lstrip('-')}"
    return f"did you mean {named}?" if named in keys else nearest(flag, FLAGS)
