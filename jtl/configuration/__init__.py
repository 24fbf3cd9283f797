"""Configs: read from their files, changed by the command line, and checked before JAX starts.

A config file defines ``get_config() -> ConfigDict``: it takes
:func:`jtl.defaults.defaults`, changes what its experiment needs, and returns it. Its one optional
parameter is the part of the command line after the colon (``configs/emoji_probe.py:twitter``);
annotate it with ``str``, ``int``, ``float`` or a ``Literal`` of the values it may have.

Nothing here imports JAX: a misspelt key is reported at once.
"""

import contextlib
import inspect
import re
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from jtl.configuration import checks, overrides
from jtl.defaults import defaults
from jtl.errors import UserError, nearest


def like(file: str, other: str, *arguments: Any) -> ConfigDict:
    """The config of another file, for one that differs in little.

    ``config = like(__file__, "emoji_source_only.py", source)``, and then what differs: a method's
    config says so that all else is as in the baseline that it is compared with.

    Args:
      file: the config file that differs, its ``__file__``.
      other: the other one, seen from the folder of that file.
      arguments: of its ``get_config``.

    Raises:
      UserError: the other file is not there, or wrong.
    """
    path, _ = split_spec(str(Path(file).parent / other))
    get_config = read_file(path)["get_config"]
    with _blaming(path):
        return get_config(*arguments)


def load(spec: str, settings: Sequence[str] = ()) -> tuple[ConfigDict, str]:
    """Reads a config file, applies ``key=value`` settings, and checks the whole.

    Args:
      spec: ``FILE.py`` or ``FILE.py:argument``.
      settings: ``key=value`` with dotted keys, as after ``--config.`` on the command line.

    Returns:
      The config, locked, and the name of its run: the file's, with the argument.

    Raises:
      UserError: anything that is wrong with either.
    """
    file, argument = split_spec(spec)
    functions = read_file(file)
    if "get_config" not in functions:
        raise UserError(f"{file} defines no get_config(); a config file returns its config from it")
    given = call(file, functions["get_config"], argument)
    config = complete(given, str(file))
    overrides.apply(config, settings)
    checks.check(config)
    return config.lock(), run_name(file, argument)


def complete(given: Any, where: str) -> ConfigDict:
    """A config with every key, each of the type of its default, those of its method among them."""
    if not isinstance(given, ConfigDict):
        raise UserError(f"{where}: get_config() returned {type(given).__name__}, not a ConfigDict")
    config = defaults()
    method = given.get("method")
    if isinstance(method, ConfigDict) and isinstance(method.get("name"), str):
        overrides.choose_method(config, method.name, f"{where}: method.name")
    else:
        overrides.choose_method(config, config.method.name, where)
    overrides.merge(config, given, where)
    return config


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Takes ``FILE.py:argument`` apart, and checks that the file is there."""
    name, argument = spec, None
    if ".py:" in spec:
        name, _, argument = spec.partition(".py:")
        name += ".py"
    file = Path(name)
    if file.is_file():
        if file.suffix != ".py":
            raise UserError(f"{file} is no Python file; a config is a .py file with get_config()")
        return file, argument
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a config in it, a .py file with get_config()")
    folder = file.parent if file.parent.is_dir() else Path("configs")
    known = [str(path) for path in folder.glob("*.py")]
    hint = nearest(str(file), known) if known else "a config is a .py file with get_config()"
    raise UserError(f"{file} does not exist; {hint}")


def run_name(file: Path, argument: str | None) -> str:
    """The default folder's name: ``emoji_probe.py:twitter`` runs in ``emoji_probe-twitter``."""
    return file.stem + ("-" + re.sub(r"[^\w.=+-]+", "-", argument) if argument else "")


def read_file(file: Path) -> Mapping[str, Any]:
    """Runs a config or experiment file and returns what it defines."""
    namespace: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    with _blaming(file):
        # Executed rather than imported: leaves no cache file beside a user's config.
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    return namespace


def call(file: Path, function: Callable[..., Any], argument: str | None) -> Any:
    """Calls a file's function with the argument from the command line, as its type."""
    if not callable(function):
        raise UserError(f"{file}: {function!r} stands where a function is expected")
    arguments = _arguments(file, function, argument)
    with _blaming(file):
        return function(*arguments)


def _arguments(file: Path, function: Callable[..., Any], argument: str | None) -> tuple[Any, ...]:
    parameters = list(inspect.signature(function).parameters.values())
    if argument is None:
        if parameters and parameters[0].default is inspect.Parameter.empty:
            raise UserError(f"{file} needs an argument: {file}:{parameters[0].name.upper()}")
        return ()
    if not parameters:
        raise UserError(f"{file} takes no argument after the colon; got {argument!r}")
    kind = typing.get_type_hints(function).get(parameters[0].name, str)
    where = f"{file}: {parameters[0].name}"
    if typing.get_origin(kind) is Literal:
        return (_choose(argument, typing.get_args(kind), where),)
    return (overrides.parse(argument, kind(), where),)


def _choose(argument: str, values: Sequence[Any], where: str) -> Any:
    named = {str(value): value for value in values}
    if argument not in named:
        raise UserError(f"{where}: no {argument!r}; {nearest(argument, named)}")
    return named[argument]


@contextlib.contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turns an exception inside a user's file into one line that names the place in it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(file):
                line = frame.lineno
        where = f"{file}:{line}" if line else str(file)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"{where}: {kind}{_message(error)}") from error


def _message(error: BaseException) -> str:
    """What an exception says, shortened to its hint for a misspelt section of a config."""
    text = str(error)
    if hint := re.search(r'Did you mean "(\w+)" instead of "(\w+)"', text):
        return f"no key {hint[2]}; did you mean {hint[1]}?"
    if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):  # a ConfigDict's
        return f"no key {error.name}; {nearest(str(error.name), defaults().keys())}"
    return " ".join(text.split())[:300]
