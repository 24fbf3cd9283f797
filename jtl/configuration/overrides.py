"""Changes to a config: the values of a config file and the ``key=value`` of the command line.

Every value takes the type of the default that it replaces, and every key has to exist. The keys of
``method`` are those of the method that is named there. One section is open: groups, each with a
factor, may be added to ``optimizer.groups``.
"""

import ast
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from jtl import catalogue, registry
from jtl.errors import UserError, nearest

OPEN = "optimizer.groups"
"""The section that keys may be added to."""

EXPECTED = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    tuple: "a tuple",
    ConfigDict: "a section",
}


def walk(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted key and value of everything that is not a section."""
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            yield from walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def choose_method(config: ConfigDict, name: str, where: str) -> None:
    """Puts a method with its own settings, at their defaults, in the place of the one there.

    Raises:
      UserError: there is no such method.
    """
    registry.require("method", name, where)
    settings = {key: default for key, (default, _) in catalogue.METHODS[name].settings.items()}
    config.method = ConfigDict({"name": name, **settings}, type_safe=False)


def merge(config: ConfigDict, given: ConfigDict, where: str, prefix: str = "") -> None:
    """Puts the values of ``given`` into ``config``, key by key.

    Raises:
      UserError: a key that ``config`` does not have, or a value of another type.
    """
    for key in given:
        dotted, value = f"{prefix}{key}", given[key]
        if key in config:
            if isinstance(config[key], ConfigDict) and isinstance(value, ConfigDict):
                merge(config[key], value, where, f"{dotted}.")
            else:
                config[key] = convert(value, config[key], f"{where}: {dotted}")
        elif prefix == f"{OPEN}.":
            config[key] = convert(value, 1.0, f"{where}: {dotted}")
        else:
            names = [name for name, _ in walk(config, prefix)]
            raise UserError(f"{where}: unknown key {dotted}; {_hint(dotted, names)}")


def apply(config: ConfigDict, settings: Sequence[str]) -> None:
    """Applies ``key=value`` settings, each of them once.

    Another method comes with its own settings: none that the file gives to its own is kept.

    Raises:
      UserError: a key that does not exist, no value, the wrong type, or the same key twice.
    """
    seen: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        where = f"--config.{key}"
        if not equals:
            raise UserError(f"{where} has no value; write {where}=VALUE")
        if key in seen:
            raise UserError(f"{where} is given twice: {seen[key]} and {text}")
        seen[key] = text
    if "method.name" in seen and seen["method.name"] != config.method.name:
        choose_method(config, seen["method.name"], "--config.method.name")
    for key, text in seen.items():
        section, leaf = _find(config, key)
        section[leaf] = parse(text, section.get(leaf, 1.0), f"--config.{key}")


def parse(text: str, default: Any, where: str) -> Any:
    """Reads a value from the command line as the type of the one it replaces.

    >>> parse("1e-3", 0.1, "--config.optimizer.learning_rate")
    0.001
    >>> parse("(('head/.*', 'train'),)", (), "--config.partition")
    (('head/.*', 'train'),)
    """
    if isinstance(default, ConfigDict):
        names = ", ".join(f"{where}.{key}" for key in default)
        raise UserError(f"{where} is a section; set {names or 'its keys'}")
    if isinstance(default, str):
        return text
    if not text:
        raise UserError(f"{where} has no value; write {where}=VALUE")
    if isinstance(default, bool):
        return convert({"true": True, "false": False}.get(text.lower(), text), default, where)
    for read in (int, float, ast.literal_eval):
        try:
            return convert(read(text), default, where)
        except (ValueError, SyntaxError):
            continue
    raise UserError(f"{where}: expected {EXPECTED[type(default)]}, got {text!r}")


def convert(value: Any, default: Any, where: str) -> Any:
    """A value as the type of its default: integers become floats and lists tuples, nothing else.

    >>> convert([["head/.*", "train"]], (), "partition")
    (('head/.*', 'train'),)
    """
    wanted = type(default)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is tuple and isinstance(value, tuple | list):
        return _tuples(value)
    if type(value) is not wanted:
        expected = EXPECTED.get(wanted, wanted.__name__)
        raise UserError(f"{where}: expected {expected}, got {_show(value)}")
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, tuple | list) else value


def _show(value: Any) -> str:
    return "a section" if isinstance(value, ConfigDict) else repr(value)


def _find(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """The section that a dotted key is in, and the key's last part, which is there or may be."""
    section = config
    *parents, leaf = key.split(".")
    for parent in parents:
        if parent not in section or not isinstance(section[parent], ConfigDict):
            raise _unknown(config, key)
        section = section[parent]
    if leaf not in section and (not leaf or ".".join(parents) != OPEN):
        raise _unknown(config, key)
    return section, leaf


def _unknown(config: ConfigDict, key: str) -> UserError:
    names = [name for name, _ in walk(config)]
    return UserError(f"unknown key --config.{key}; {_hint(key, names)}")


def _hint(key: str, names: Sequence[str]) -> str:
    """The key of that name in another section, one like it in its own, or all of its own."""
    section, _, leaf = key.rpartition(".")
    found = [name for name in names if name.rpartition(".")[2] == leaf]
    own = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == section}
    if not found:
        found = [own[close] for close in difflib.get_close_matches(leaf, own)]
    if not found and section and own:
        return f"valid: {', '.join(sorted(own.values()))}"
    return f"did you mean {' or '.join(found)}?" if found else nearest(key, names)
