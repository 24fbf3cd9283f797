"""The commands that use what was trained or stored: their words, checked before JAX starts."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jtl import registry
from jtl.configuration import checks, overrides
from jtl.defaults import defaults
from jtl.errors import UserError, nearest
from jtl.frozen import cache, listing
from jtl.models.pretrained.names import TIMM

OUTPUT, ARCHITECTURE, SETTING, ALL = "-o", "--architecture", "--config.", "--all"
SETTABLE = ("model.image_size", "model.pooling", "model.max_tokens", "data.text_column", "cache")
"""Keys of a config that say how a backbone is run, on what of a table, and what is kept of it."""


class Words(NamedTuple):
    """What stands after a command's name.

    Attributes:
      places: what is no flag, in order.
      output: the value of ``-o``.
      architecture: the value of ``--architecture``.
      settings: ``key=value`` with dotted keys.
      everything: whether ``--all`` is there.
    """

    places: tuple[str, ...]
    output: Path | None
    architecture: str
    settings: tuple[str, ...]
    everything: bool


class Command(NamedTuple):
    """A command.

    Attributes:
      usage: how to call it.
      flags: those that it knows.
      work: checks its words; returns what is to be done.
      least, most: how many places it takes.
    """

    usage: str
    flags: tuple[str, ...]
    work: Callable[[Words], Callable[[], int]]
    least: int
    most: int | None = None


def work(argv: Sequence[str]) -> Callable[[], int]:
    """Reads and checks all that a command line says; returns what is to be done.

    Args:
      argv: the name of a command out of :data:`COMMANDS`, and its words.

    Raises:
      UserError: an unknown flag, a flag without its value, too few or too many words, or a file or
        folder that is not there.
    """
    name, *rest = argv
    command = COMMANDS[name]
    words = _parse(name, rest)
    count, most = len(words.places), command.most
    if count < command.least or (most is not None and count > most):
        needed = "more" if count < command.least else "fewer"
        raise UserError(f"{name} takes {needed} names; write {command.usage}")
    return command.work(words)


def _parse(name: str, rest: Sequence[str]) -> Words:
    command, places, settings, everything = COMMANDS[name], [], [], False
    values = {OUTPUT: "", ARCHITECTURE: ""}
    words = iter(rest)
    for word in words:
        flag, equals, value = word.partition("=")
        if word.startswith(SETTING) and SETTING in command.flags:
            settings.append(word.removeprefix(SETTING))
        elif word == ALL and ALL in command.flags:
            everything = True
        elif not word.startswith("-") or word == "-":
            places.append(word)
        elif flag not in command.flags:
            raise UserError(f"{name}: unknown flag {flag}; write {command.usage}")
        elif values[flag]:
            raise UserError(f"{flag} is given twice: {values[flag]} and {value or next(words, '')}")
        else:
            values[flag] = value if equals else next(words, "")
            if not values[flag] or values[flag].startswith("-"):
                raise UserError(f"{flag} has no value; write {command.usage}")
    output = Path(values[OUTPUT]).expanduser() if values[OUTPUT] else None
    return Words(tuple(places), output, values[ARCHITECTURE], tuple(settings), everything)


def _predict(words: Words) -> Callable[[], int]:
    place, inputs = _finished(words.places[0]), words.places[1:]
    _check_inputs(inputs)
    if words.output:
        _check_output(words.output, ".csv", ".jsonl", read=inputs)

    def run() -> int:
        from jtl.deployment import answers  # starts JAX

        return answers.predict(place, inputs, words.output)

    return run


def _features(words: Words) -> Callable[[], int]:
    name, *inputs = words.places
    config = defaults()
    config.model.backbone = name
    for key in (setting.partition("=")[0] for setting in words.settings):
        if key not in SETTABLE:
            raise UserError(f"--config.{key}: features can be told {', '.join(SETTABLE)}")
    overrides.apply(config, words.settings)
    checks.check_backbone(config)
    if name.startswith("features:"):
        raise UserError(f"features: {name} is no backbone; its inputs are features already")
    _check_inputs(inputs)
    if words.output is None:
        raise UserError(f"features: no -o; write {COMMANDS['features'].usage}")
    output = _check_output(words.output, ".npz", ".csv", read=inputs)

    def run() -> int:
        from jtl.deployment import answers  # start JAX
        from jtl.runs import build  # start JAX

        found = build.backbone(config)
        column, on_disk = config.data.text_column, config.cache
        return answers.features(found, inputs, output, text=column, on_disk=on_disk)

    return run


def _export(words: Words) -> Callable[[], int]:
    place = _finished(words.places[0])
    if words.output is None:
        raise UserError(f"export: no -o; write {COMMANDS['export'].usage}")
    folder = words.output
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"export: {folder} is there already; give a new folder")

    def run() -> int:
        from jtl.deployment import export  # starts JAX

        return export.export(place, folder)

    return run


def _study(words: Words) -> Callable[[], int]:
    from jtl.studies import status

    return partial(status.follow, status.Watch(Path(words.places[0]).expanduser()))


def _convert(words: Words) -> Callable[[], int]:
    source, file = map(Path, words.places)
    if not source.is_file():
        raise UserError(f"convert: no file {source}; name a file of weights")
    _check_output(file, ".safetensors", read=[str(source)])
    if words.architecture and words.architecture not in TIMM:
        raise UserError(
            f"{ARCHITECTURE}: jtl has no {words.architecture!r}; "
            f"{nearest(words.architecture, TIMM)}"
        )

    def run() -> int:
        from jtl.models.pretrained.convert import convert  # needs NumPy

        print(convert(source, file, architecture=words.architecture))
        return 0

    return run


def _cache(words: Words) -> Callable[[], int]:
    action, *names = words.places
    if action not in ("ls", "rm"):
        raise UserError(f"cache: no {action}; write {COMMANDS['cache'].usage}")
    if action == "ls" and (names or words.everything):
        raise UserError(f"cache: ls shows all, and takes no {(*names, ALL)[0]}")
    if action == "rm" and bool(names) == words.everything:
        raise UserError("cache: rm takes names of jtl cache ls, or --all")
    cache.limit()

    def run() -> int:
        if action == "ls":
            print(listing.table(listing.entries()))
        else:
            removed = listing.remove(names)
            print(f"removed {len(removed)}: {listing.in_mib(sum(e.size for e in removed))}")
        return 0

    return run


def _finished(name: str) -> Path:
    """The folder of a finished run, or the file of its model."""
    place = Path(name).expanduser()
    if not place.is_file() and not (place / registry.MODEL).is_file():
        raise UserError(f"no finished run in {name}; train it first, or give its workdir")
    return place


def _check_inputs(names: Sequence[str]) -> None:
    if not any(name == "-" or _is_there(name) for name in names):
        raise UserError(f"there is no file or folder {' or '.join(names)}; name what is to be read")


def _is_there(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError):  # too long for a name, or ~ and the name of no user
        return False


def _check_output(file: Path, *suffixes: str, read: Sequence[str]) -> Path:
    if file.suffix not in suffixes:
        raise UserError(f"{file}: the name of what is written ends in {' or '.join(suffixes)}")
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise UserError(f"{file}: no file can be written there; name one in a folder that exists")
    if file.exists() and any(_is_there(name) and _holds(name, file) for name in read):
        raise UserError(f"{file}: is read, and would be written over; give another name")
    return file


def _holds(name: str, file: Path) -> bool:
    """Whether an input is this file, or a folder with it."""
    given, whole = Path(name).expanduser().resolve(), file.resolve()
    return given == whole or given in whole.parents


COMMANDS: Mapping[str, Command] = {
    "predict": Command(
        "jtl predict WORKDIR INPUT ... [-o FILE.csv|FILE.jsonl]", (OUTPUT,), _predict, 2
    ),
    "features": Command(
        "jtl features BACKBONE INPUT ... -o FILE.npz|FILE.csv", (OUTPUT, SETTING), _features, 2
    ),
    "export": Command("jtl export WORKDIR -o DIR", (OUTPUT,), _export, 1, 1),
    "convert": Command(
        "jtl convert WEIGHTS.pth FILE.safetensors [--architecture NAME]",
        (ARCHITECTURE,),
        _convert,
        2,
        2,
    ),
    "study": Command("jtl study DIR", (), _study, 1, 1),
    "cache": Command("jtl cache ls|rm [NAME ...] [--all]", (ALL,), _cache, 1),
}
"""By their names."""
