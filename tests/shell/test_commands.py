"""The commands that use what was trained: every mistake is one line, before JAX starts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtl import registry
from jtl.shell import cli, commands

# The words of a command, and what the message has to name.
MISTAKES = {
    "no inputs": ("predict run", "predict takes more names; write jtl predict WORKDIR INPUT ..."),
    "no run": ("predict nowhere photo.png", "no finished run in nowhere; train it first"),
    "a run that is not finished": ("predict empty photo.png", "no finished run in empty"),
    "inputs that are not there": ("predict run a.png b.png", "no file or folder a.png or b.png"),
    "a format that is not written": (
        "predict run photo.png -o out.xlsx",
        "out.xlsx: the name of what is written ends in .csv or .jsonl",
    ),
    "a folder that is not there": (
        "predict run photo.png -o no/out.csv",
        "no/out.csv: no file can be written there",
    ),
    "a flag of another command": (
        "predict run photo.png --architecture=resnet18",
        "predict: unknown flag --architecture; write jtl predict",
    ),
    "a setting": ("predict run photo.png --config.seed=1", "unknown flag --config.seed"),
    "no output": ("predict run photo.png -o", "-o has no value; write jtl predict"),
    "two outputs": ("predict run photo.png -o a.csv -o b.csv", "-o is given twice: a.csv and b"),
    "an unknown backbone": (
        "features random:resnet51 photo.png -o out.npz",
        "model.backbone: there is no random:resnet51; did you mean resnet50",
    ),
    "a backbone of no run": ("features run:nowhere photo.png -o out.npz", "no finished run in now"),
    "no backbone": ("features features:8 photo.png -o out.npz", "features:8 is no backbone"),
    "features without a place": ("features run:run photo.png", "features: no -o; write jtl feat"),
    "features in another format": ("features run:run photo.png -o a.txt", "ends in .npz or .csv"),
    "a setting that trains": (
        "features run:run photo.png -o out.npz --config.steps=1",
        "--config.steps: features can be told model.image_size, model.pooling, model.max_tokens",
    ),
    "a pooling that is none": (
        "features run:run photo.png -o out.npz --config.model.pooling=max",
        "model.pooling: unknown 'max'",
    ),
    "an export without a place": ("export run", "export: no -o; write jtl export WORKDIR -o DIR"),
    "an export into a folder of others": ("export run -o run", "run is there already; give a new"),
    "an export of two": ("export run run -o out", "export takes fewer names; write jtl export"),
    "weights that are not there": ("convert a.pth b.safetensors", "convert: no file a.pth"),
    "weights of another format": ("convert photo.png b.pth", "ends in .safetensors"),
    "weights onto themselves": ("convert w.safetensors w.safetensors", "is read, and would be"),
    "an unknown architecture": (
        "convert photo.png b.safetensors --architecture resnet51",
        "--architecture: jtl has no 'resnet51'; did you mean resnet50",
    ),
    "no action on the cache": ("cache list", "cache: no list; write jtl cache ls|rm [NAME ...]"),
    "a name to list": ("cache ls name", "cache: ls shows all, and takes no name"),
    "nothing to remove": ("cache rm", "cache: rm takes names of jtl cache ls, or --all"),
    "all and some": ("cache rm name --all", "cache: rm takes names of jtl cache ls, or --all"),
    "no such name": ("cache rm name", "cache: nothing is called name"),
    "no run to export": ("export nowhere -o out", "no finished run in nowhere"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what looks like a finished run in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "empty"):
        (tmp_path / name).mkdir()
    for name in (f"run/{registry.MODEL}", "photo.png", "w.safetensors"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = MISTAKES[case]
    assert cli.main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("jtl: error: ") and expected in captured.err


def test_mistakes_are_reported_without_starting_jax(here: Path) -> None:
    code = (
        "import sys; from jtl.shell import cli;"
        "codes = {cli.main(words.split()) for words in sys.argv[1:]};"
        "print([*codes, 'jax' in sys.modules, 'numpy' in sys.modules])"
    )
    command = [sys.executable, "-c", code, *(words for words, _ in MISTAKES.values())]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.lower()) == [2, False, False]
    assert result.stderr.count("\n") == len(MISTAKES)


def test_help_and_launch_name_every_command(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert cli.main(["predict", "--help"]) == 0
    helped = capsys.readouterr().out
    launch = (root / "launch.sh").read_text(encoding="utf-8")
    for name, command in commands.COMMANDS.items():
        assert f"\n{command.usage}" in helped
        assert f"\n# launch.sh {name} " in launch


def test_a_mistyped_command_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predcit", "run", "photo.png"]) == 2
    assert "no file and no command predcit; did you mean predict?" in capsys.readouterr().err


def test_convert_writes_what_says_its_architecture(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"a": np.ones(2, np.float32)}, "plain.safetensors")
    words = ["convert", "plain.safetensors", "said.safetensors", "--architecture", "resnet18"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.endswith("; it says that it holds resnet18\n")
    np.testing.assert_array_equal(load_file("said.safetensors")["a"], [1, 1])
