"""Configs: their keys, what a file and the command line make of them, and what they may hold."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_sentences
from ml_collections import ConfigDict

from jtl import catalogue, configuration, registry
from jtl.configuration import checks, overrides
from jtl.data import embedded
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.models import digits_convnet, efficientnet_lite
from jtl.types import Method, Preprocess
from jtl.validators import VALIDATORS

HEAD = {"dense": {"kernel": np.zeros((8, 4), np.float32), "bias": np.zeros(4, np.float32)}}
TEXT = """
from typing import Literal
from jtl.defaults import defaults

def get_config(direction: Literal["mnist", "optdigits"] = "mnist"):
    config = defaults()
    config.data.source = "embedded:" + direction
    config.data.target = "embedded:optdigits"
    config.model.backbone = "random:digits-convnet"
    config.method.name = "dann"
    config.method.strength = 1
    config.optimizer.groups.slow = 1
    config.optimizer.learning_rate = 1
    config.partition = [["backbone/.*", "slow"], [".*", "train"]]
    return config
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "good.py"
    path.write_text(TEXT)
    return str(path)


def changed(file: str, *settings: str) -> Any:
    return configuration.load(file, settings)[0]


def test_every_key_is_there_after_loading(file: str) -> None:
    keys = {key for key, _ in overrides.walk(defaults())}
    loaded = {key for key, _ in overrides.walk(changed(file))}
    assert loaded - keys == {"method.strength", "method.width", "optimizer.groups.slow"}
    assert keys <= loaded


def test_a_loaded_config_is_locked(file: str) -> None:
    config = changed(file)
    with pytest.raises(AttributeError):
        config.sede = 1
    with pytest.raises(AttributeError):
        config.method.strenght = 1


def test_what_the_file_does_not_say_is_the_default(file: str) -> None:
    config, default = changed(file), defaults()
    assert config.steps == default.steps and config.keep.best == default.keep.best


def test_the_name_of_a_run_is_the_files_with_its_argument(file: str) -> None:
    assert configuration.load(file)[1] == "good"
    config, name = configuration.load(f"{file}:optdigits")
    assert name == "good-optdigits" and config.data.source == "embedded:optdigits"


def test_a_config_like_another_differs_in_what_it_says(file: str) -> None:
    mine = Path(file).with_name("mine.py")
    mine.write_text(
        "from jtl.configuration import like\n\n"
        "def get_config(direction: str = 'optdigits'):\n"
        "    config = like(__file__, 'good.py', direction)\n"
        "    config.seed = 3\n"
        "    return config\n"
    )
    found, expected = changed(str(mine)).to_dict(), changed(f"{file}:optdigits").to_dict()
    assert found == expected | {"seed": 3} and expected["seed"] == 0
    mine.write_text(mine.read_text().replace("good.py", "god.py"))
    with pytest.raises(
        UserError, match=r"mine\.py:4: .*god\.py does not exist; did you mean .*good"
    ):
        changed(str(mine))


def test_an_argument_is_one_of_its_literal(file: str) -> None:
    with pytest.raises(UserError, match=r"direction: no 'minst'; did you mean mnist\?"):
        configuration.load(f"{file}:minst")


@pytest.mark.parametrize(
    ("annotation", "argument", "value"),
    [("int", "5", 5), ("float", "1e-3", 0.001), ("bool", "true", True), ("str", "a:b", "a:b")],
)
def test_an_argument_has_the_type_of_its_annotation(
    annotation: str, argument: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "typed.py"
    path.write_text(f"def get_config(value: {annotation}):\n    return value\n")
    functions = configuration.read_file(path)
    result = configuration.call(path, functions["get_config"], argument)
    assert result == value and type(result) is type(value)
    if annotation == "int":
        with pytest.raises(UserError, match="value: expected an integer, got 'five'"):
            configuration.call(path, functions["get_config"], "five")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps=250", 250),
        ("seed=1_000", 1000),
        ("optimizer.learning_rate=2", 2.0),
        ("optimizer.learning_rate=1e-3", 0.001),
        ("data.target=tfds:a=b", "tfds:a=b"),
        ("method.strength=0.5", 0.5),
        ("method.strength=3", 3.0),
        ("method.width=32", 32),
        ("optimizer.groups.slow=0.1", 0.1),
        (
            "partition=[('head/.*', 'slow'), ('.*', 'freeze')]",
            (("head/.*", "slow"), (".*", "freeze")),
        ),
        (
            "unfreeze=((0.5, [('.*', 'slow')]),)",
            ((0.5, ((".*", "slow"),)),),
        ),
    ],
)
def test_a_setting_takes_the_type_of_what_it_replaces(
    setting: str, value: object, file: str
) -> None:
    config = changed(file, setting)
    found: Any = config
    for part in setting.partition("=")[0].split("."):
        found = found[part]
    assert found == value and type(found) is type(value)


def test_values_of_a_file_take_the_type_of_their_default(file: str) -> None:
    config = changed(file)
    assert type(config.optimizer.learning_rate) is float
    assert config.partition == (("backbone/.*", "slow"), (".*", "train"))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_booleans_are_words(text: str, value: bool) -> None:
    assert overrides.parse(text, not value, "key") is value
    with pytest.raises(UserError, match="expected true or false, got '1'"):
        overrides.parse("1", value, "key")


def test_a_group_may_be_added_on_the_command_line(file: str) -> None:
    rules = "partition=(('head/.*', 'fast'), ('.*', 'slow'))"
    assert changed(file, "optimizer.groups.fast=2", rules).optimizer.groups.to_dict() == {
        "slow": 1.0,
        "fast": 2.0,
    }


def test_a_group_needs_a_rule_and_a_factor(file: str) -> None:
    with pytest.raises(UserError, match="no rule of partition has the label 'slow'"):
        changed(file, "partition=(('.*', 'train'),)")
    with pytest.raises(UserError, match="factor greater than 0, got 0"):
        changed(file, "optimizer.groups.slow=0")
    with pytest.raises(UserError, match=r"unfreeze\[1\]: progress 0.2 is not between 0.5 and 1"):
        changed(file, "unfreeze=((.5, (('.*', 'slow'),)), (.2, (('.*', 'slow'),)))")


def test_folders_and_files_that_exist_pass(file: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").touch()
    (tmp_path / registry.MODEL).touch()
    config = changed(
        file,
        f"data.source=folder:{tmp_path}",
        f"data.target=arrays:{tmp_path / 'a.npz'}",
        f"model.backbone=run:{tmp_path}",
    )
    assert config.data.target.endswith("a.npz")


def test_every_number_has_a_range_and_every_range_a_key() -> None:
    values = dict(overrides.walk(defaults()))
    numbers = {key for key, value in values.items() if type(value) in (int, float)}
    assert numbers == set(checks.RANGES)
    assert set(checks.CHOICES) <= set(values)
    for key, choices in checks.CHOICES.items():
        assert values[key] in choices
    for key, (holds, _) in checks.RANGES.items():
        assert holds(values[key]), key


def test_names_are_looked_up_with_the_nearest_in_the_message() -> None:
    with pytest.raises(UserError, match=r"here: unknown backbone 'rnu'; did you mean run\?"):
        registry.require("backbone", "rnu", "here")
    assert registry.split("data", "tfds:mnist/3.0.1:x", "here") == ("tfds", "mnist/3.0.1:x")


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_registered_name_can_be_imported(kind: str) -> None:
    for name in registry.KINDS[kind]:
        assert callable(registry.resolve(kind, name)), name


@pytest.mark.parametrize("name", catalogue.METHODS)
def test_what_is_registered_of_a_method_is_what_it_declares(name: str) -> None:
    entry, factory = catalogue.METHODS[name], registry.resolve("method", name)
    arguments = inspect.signature(factory).parameters
    sizes = {"features": 8, "classes": 3, "pretrained_head": HEAD}
    made: Method = factory(**{key: sizes[key] for key in arguments if key in sizes})
    declared = {key: value.default for key, value in arguments.items() if key not in sizes}
    declared |= made.hyper
    registered = {key: default for key, (default, _) in entry.settings.items()}
    assert registered == declared
    assert {key: type(value) for key, value in registered.items()} == {
        key: type(value) for key, value in declared.items()
    }
    assert all(holds(default) for default, (holds, _) in entry.settings.values())
    reads = {domain for phase in made.phases for domain in phase.reads}
    assert entry.target == (made.oracle or "target" in reads)


def test_a_package_and_an_architecture_are_registered_under_their_own_names() -> None:
    assert set(registry.PACKAGES) == {efficientnet_lite.PACKAGE}
    assert set(registry.ARCHITECTURES) == {
        efficientnet_lite.NAME,
        digits_convnet.NAME,
        digits_convnet.BATCH_NORM_NAME,
    }


@pytest.mark.parametrize("name", registry.EMBEDDED)
def test_every_embedded_set_is_there(name: str) -> None:
    images = Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)
    wanted = {"sentiment": small_sentences.tokenization(), "tumours": None}
    found = embedded.load(name, wanted.get(name.partition("/")[0], images))
    assert found.name == f"embedded:{name}" and len(found) > 200
    assert set(found.known_labels()) == set(range(len(found.classes)))


def test_the_criteria_are_the_validators_and_all_but_source_risk_read_the_target() -> None:
    assert list(registry.VALIDATORS) == list(VALIDATORS)
    for name, validator in VALIDATORS.items():
        # Weights of importance are those of source examples in the target.
        reads = any(array.startswith(("target", "importance")) for array in validator.reads)
        assert reads == (name != "source_risk"), name


def test_a_method_has_all_its_settings_though_the_file_names_none(file: str) -> None:
    config = changed(file)
    assert config.method.to_dict() == {"name": "dann", "strength": 1.0, "width": 1024}
    assert changed(file, "method.width=16").method.width == 16


def test_another_method_comes_with_its_own_settings(file: str) -> None:
    settings = ("method.label_smoothing=.1", "method.name=supervised")
    assert changed(file, *settings).method.to_dict() == {
        "name": "supervised",
        "label_smoothing": 0.1,
    }
    with pytest.raises(UserError, match=r"--config\.method\.strength; valid: method\.label_smoo"):
        changed(file, "method.strength=1", "method.name=supervised")
    assert changed(file, "method.name=dann", "method.width=8").method.strength == 1.0


def test_importing_and_checking_starts_neither_jax_nor_numpy(file: str) -> None:
    code = (
        "import sys, time; start = time.perf_counter();"
        "from jtl import configuration; from jtl.shell import cli;"
        "configuration.load(sys.argv[1]); took = time.perf_counter() - start;"
        "print(({'jax', 'numpy'} & set(sys.modules), took))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    modules, took = ast.literal_eval(result.stdout.replace("set()", "()"))
    assert not modules
    assert took < 2, "0.3 s on a machine that does nothing else"


def test_the_shipped_configs_load(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some start from a run that the user makes first, which is not there.
    there = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: there(path) or path.name == registry.MODEL)
    for path in sorted((root / "configs").glob("*.py")):
        config, name = configuration.load(str(path))
        assert isinstance(config, ConfigDict) and name == path.stem
