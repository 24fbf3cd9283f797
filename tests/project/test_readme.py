"""What the documents say holds: code runs, numbers come from runs, whatever they name exists."""

import ast
import doctest
import functools
import hashlib
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import test_architecture
import toys
from PIL import Image

from jtl import catalogue, configuration, registry
from jtl.configuration import checks, overrides
from jtl.data import embedded
from jtl.data.splits import split_domains
from jtl.defaults import defaults
from jtl.models import digits_convnet, heads, saved
from jtl.models.chain import chain, prefixed
from jtl.probes import compared
from jtl.ranges import NATURAL
from jtl.types import Method, Preprocess

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\./launch\.sh ((?:configs|experiments)/\w+\.py(?::[\w-]+)?)")
TREES = (
    *("jtl", "configs", "experiments", "tests", "tools", "benchmarks", "docs"),
    *("requirements", ".ci"),
)
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
STARTS = [
    kind + house for kind in ("source_only", "smoothed", "normed") for house in ("", "-twitter")
]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))

every_document = pytest.mark.parametrize("name", DOCUMENTS)
every_page = pytest.mark.parametrize("name", (*DOCUMENTS, *PAGES))


@functools.cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [content for kind, content in BLOCK.findall(text(name)) if kind == language]


def section(name: str, heading: str) -> str:
    """From a heading to the next one of any level."""
    start = text(name).split(f"\n{heading}\n", 1)[1]
    return re.split(r"^#", start, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of Markdown tables below their headers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = [number for number, line in enumerate(lines) if line.startswith("|---")]
    heads = {number - 1 for number in rules}.union(rules)
    return [row for number, row in enumerate(cells) if number not in heads]


def coded(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def prose(name: str) -> str:
    """A document without its blocks of code."""
    return BLOCK.sub("", text(name))


def patch() -> str:
    """The example of ARCHITECTURE.md."""
    (content,) = blocks("ARCHITECTURE.md", "diff")
    return content


def patched_files() -> dict[str, str]:
    """The new files of the example."""
    parts = patch().split("diff --git ")[1:]
    return {
        re.search(r"^\+\+\+ b/(.*)$", part, re.MULTILINE)[1]: "".join(
            line[1:] + "\n" for line in part.split("@@\n", 1)[1].splitlines()
        )
        for part in parts
        if "\nnew file" in part
    }


# --- code -----------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with photos, and a small model in the place of a run's."""
    found = digits_convnet.backbone(image_size=8)
    blocks = (*prefixed("backbone", found.blocks()), ("head", heads.head(found.width, 9)))
    shapes, _ = jax.eval_shape(chain(blocks).init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    for folder in ("photos", "runs/emoji_probe"):
        (tmp_path / folder).mkdir(parents=True)
    saved.write(tmp_path / "runs" / "emoji_probe", params, {}, found, list("abcdefghi"))
    for animal in ("cat", "dog"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{animal}.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("trained")
@every_page
def test_python_runs_and_prints_what_is_shown(name: str) -> None:
    space: dict[str, Any] = {}
    for number, code in enumerate(blocks(name, "python")):
        if code.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(code, space, f"{name}[{number}]", name, 0)
            said = io.StringIO()
            doctest.DocTestRunner(verbose=False).run(example, out=said.write, clear_globs=False)
            assert not said.getvalue(), said.getvalue()
            space.update(example.globs)
        else:
            exec(compile(code, f"{name}[{number}]", "exec"), space)


def test_readme_shows_losses_first_and_both_commands() -> None:
    start = "\n".join(text("README.md").splitlines()[:40])
    shown = BLOCK.findall(start)
    assert "./launch.sh test" in shown[0][1] and "./launch.sh configs/emoji_dann.py" in shown[0][1]
    assert shown[1][0] == "python" and "from jtl import losses" in shown[1][1]
    assert "| `dann` |" in start


# --- names ----------------------------------------------------------------------------------------


@every_page
def test_every_path_that_is_named_exists(name: str) -> None:
    code = [word for span in coded(prose(name)) for word in span.split()]
    code += [word for block in blocks(name, "sh") for word in block.split()]
    roots = "|".join(re.escape(tree) for tree in TREES)
    paths = {re.sub(r"^\./|:\w+$", "", word) for word in code}
    paths = {p for p in paths if re.match(rf"({roots})/", p) or p in ("launch.sh", "NOTICE")}
    links = (link for link in re.findall(r"\]\(([^)#]+)\)", prose(name)) if "://" not in link)
    paths |= {str(Path(name).parent / link) for link in links}
    allowed = patched_files() if name == "ARCHITECTURE.md" else {}
    assert paths and not {p for p in paths if p not in allowed and not (ROOT / p).exists()}


@every_document
def test_every_command_names_a_config_that_loads(name: str, fresh_clone: Path) -> None:
    mine = patched_files()
    specs = COMMAND.findall(text(name))
    assert specs or name in ("CONTRIBUTING.md", "CHANGELOG.md")
    for spec in specs:
        if spec not in mine and spec.startswith("configs/"):
            configuration.load(str(ROOT / spec))


@every_document
def test_every_setting_that_is_named_exists(name: str) -> None:
    settings = re.findall(r"--config\.([a-z_.]+)=(\S*?)(?=[`\s])", text(name))
    assert settings or name != "README.md"
    for key, value in settings:
        if key.partition(".")[0] != "method" or key == "method.name":
            config = defaults()
            config.probe = compared.section()
            overrides.apply(config, [f"{key}={value}"])


def test_the_table_of_keys_is_that_of_the_defaults() -> None:
    table = rows(section("README.md", "### Keys"))
    found = {coded(key)[0]: ast.literal_eval(coded(default)[0]) for key, default, _ in table}
    assert found == dict(overrides.walk(defaults()))


def test_the_choices_of_a_key_are_all_named() -> None:
    table = {coded(row[0])[0]: row[2] for row in rows(section("README.md", "### Keys"))}
    for key, choices in checks.CHOICES.items():
        assert set(filter(None, choices)) <= set(coded(table[key])), key


def test_the_reference_is_what_the_docstrings_say() -> None:
    """``python tools/write_reference.py`` renews it."""
    tool = configuration.read_file(ROOT / "tools" / "write_reference.py")
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == tool["reference"]()


def test_the_forms_of_data_and_backbones_are_those_of_the_registry() -> None:
    table = rows(section("README.md", "## Your own data"))
    assert {coded(row[0])[0].partition(":")[0] for row in table} == set(registry.DATA)
    assert coded(table[-1][1]) == list(registry.EMBEDDED)
    (backbones,) = (r[2] for r in rows(section("README.md", "### Keys")) if "backbone`" in r[0])
    forms = {registry.split("backbone", form, "")[0] for form in coded(backbones)}
    assert forms == set(registry.BACKBONES)


def test_the_names_of_backbones_are_those_of_the_registry() -> None:
    names = [f"package:{name}" for name in registry.PACKAGES]
    names += [f"random:{name}" for name in registry.ARCHITECTURES]
    assert set(names) <= set(coded(section("README.md", "### Keys")))


# --- methods and configs --------------------------------------------------------------------------


def test_the_tables_of_methods_say_what_the_registry_says() -> None:
    """A method that is being added has no row before it has results."""
    for name, _, file, config, result, _ in rows(text("README.md").split("## ", 1)[0]):
        module = catalogue.METHODS[coded(name)[0]].place.partition(":")[0]
        assert coded(file) == [module.replace(".", "/") + ".py"]
        assert (ROOT / coded(config)[0]).exists() and result


def test_the_table_of_configs_is_the_folder() -> None:
    """But for those of one method, which are named after it."""
    shipped = {f"configs/{path.name}" for path in CONFIGS}
    table = {coded(row[0])[0] for row in rows(section("README.md", "## Configs"))}
    of_a_method = {
        path for path in shipped if Path(path).stem.split("_", 1)[1] in catalogue.METHODS
    }
    assert table <= shipped
    assert shipped <= set(coded(prose("README.md"))) | of_a_method


@pytest.fixture
def fresh_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the runs are there that others start from."""
    for name in ("digits_pretrain", *(f"emoji_{start}" for start in STARTS)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / registry.MODEL).touch()
    for name in ("photos", "sketches"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_its_docstring_names_its_commands(
    path: Path, fresh_clone: Path
) -> None:
    commands = COMMAND.findall(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert f"configs/{path.name}" in {spec.partition(":")[0] for spec in commands}
    for spec in commands:
        config, _ = configuration.load(str(ROOT / spec))
        assert config.steps > 0


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_names_its_command_and_all_its_configs_are_valid(
    path: Path, fresh_clone: Path
) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert COMMAND.findall(docstring) == [f"experiments/{path.name}"]
    made = configuration.read_file(path)["study"]()
    for needed in made.needs:
        Path(needed).mkdir(parents=True, exist_ok=True)
        (Path(needed) / registry.MODEL).touch()
    for key in made.keys:
        config = configuration.complete(made.config(*key, made.seeds[0]), path.name)
        checks.check(config, initial_follows=key in made.initial)


# --- ARCHITECTURE.md ------------------------------------------------------------------------------


def test_the_layers_shown_are_those_enforced() -> None:
    (shown,) = blocks("ARCHITECTURE.md", "text")
    assert [tuple(line.split()) for line in shown.splitlines()] == list(test_architecture.LAYERS)


def test_the_example_of_a_new_method_applies(tmp_path: Path) -> None:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    for name in re.findall(r"^--- a/(.*)$", patch(), re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    # Someone who follows the page has applied it already: then the way back must be open.
    done = all((ROOT / name).exists() for name in patched_files())
    for name in patched_files() if done else ():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["git", "apply", "--check", *(["-R"] if done else []), "-"]
    environment = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        command, input=patch(), text=True, cwd=tmp_path, capture_output=True, env=environment
    )
    assert result.returncode == 0, result.stderr


def test_the_example_of_a_new_method_trains() -> None:
    space: dict[str, Any] = {"__name__": "example"}
    exec(patched_files()["jtl/methods/medm.py"], space)
    made: Method = space["medm"]()
    run = toys.Run(toys.recipe(made, plain=True))
    _, metrics = run.train(2)
    expected = metrics["task"] + metrics["entropy"] - 0.2 * metrics["diversity"]
    assert float(metrics["loss"]) == pytest.approx(float(expected))


def test_the_example_of_a_new_config_is_as_the_baseline_but_for_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"strength": (1.0, NATURAL), "diversity": (0.2, NATURAL)}
    monkeypatch.setitem(registry.KINDS["method"], "medm", "")
    monkeypatch.setitem(catalogue.METHODS, "medm", catalogue.Entry("", settings))
    shutil.copy(ROOT / "configs" / "emoji_source_only.py", tmp_path)
    file = tmp_path / "emoji_medm.py"
    file.write_text(patched_files()["configs/emoji_medm.py"])
    mine = configuration.complete(configuration.read_file(file)["get_config"](), file.name)
    baseline, _ = configuration.load(str(ROOT / "configs" / "emoji_source_only.py"))
    assert mine.to_dict() | {"method": 0} == baseline.to_dict() | {"method": 0}
    assert mine.method.to_dict() == {"name": "medm", "strength": 1.0, "diversity": 0.2}


# --- numbers --------------------------------------------------------------------------------------


def drawn(house: str) -> Any:
    return embedded.load(f"emoji/{house}", Preprocess(64, 3, (0.0,) * 3, (1.0,) * 3))


def twins() -> Iterator[tuple[int, int, int]]:
    """How many target test emoji have a pixel twin: in target training; in source training; and
    under another code point whose drawing in the source's style is in source training.
    """

    def pixels(examples: Any) -> list[str]:
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in examples.inputs]

    houses = {name: drawn(name) for name in ("google", "twitter")}
    for source, target in (("google", "twitter"), ("twitter", "google")):
        of = dict(zip(houses[target].identities, pixels(houses[target]), strict=True))
        for seed in range(3):
            domains = split_domains(houses[source], houses[target], seed=seed)
            sizes = [len(domains.source_train), len(domains.target_train), len(domains.target_test)]
            assert sizes == [953, 477, 476]
            tested = pixels(domains.target_test)
            others = (
                pixels(domains.target_train),
                pixels(domains.source_train),
                [of[name] for name in domains.source_train.identities],
            )
            yield tuple(sum(image in set(seen) for image in tested) for seen in others)


def test_no_more_emoji_have_twins_than_the_readme_says() -> None:
    counts = np.array(list(twins()))
    unlabelled, labelled, redrawn = counts.max(0).tolist()
    said = " ".join(section("README.md", "## Protocol").split())
    assert labelled == 0 and "and none in labelled source training" in said
    assert f"at most {unlabelled} of the 476 target test emoji" in said
    assert f"for at most {redrawn} of them" in said
