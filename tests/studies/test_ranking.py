"""The command that ranks backbones: what it refuses, what it scores, and the table it ends with."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special

from jtl import transferability
from jtl.errors import UserError
from jtl.models import heads, saved
from jtl.models.chain import chain
from jtl.models.digits_convnet import backbone as digits
from jtl.probes import compared
from jtl.records import workdir
from jtl.runs.prepare import prepare
from jtl.shell import cli
from jtl.studies import ranking

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

SIZE, OLD_CLASSES, CLASSES = 8, 5, 3
BOTH = ("random:digits-convnet", "random:digits-convnet-bn")
SETTINGS = (f"model.image_size={SIZE}", "batch_size=8", "steps=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with labelled images, and a finished run on others."""
    folder = tmp_path_factory.mktemp("ranking")
    images = np.random.default_rng(0).integers(256, size=(48, SIZE, SIZE, 1)).astype(np.uint8)
    np.savez(folder / "digits.npz", inputs=images, labels=np.arange(48) % CLASSES)
    (folder / "run").mkdir()
    found = digits(image_size=SIZE)
    backbone, _ = chain(found.blocks()).init(jax.random.key(1))
    head, _ = heads.head(found.width, OLD_CLASSES).init(jax.random.key(2))
    saved.write(
        folder / "run",
        {"backbone": backbone, "head": head},
        {},
        found,
        [str(n) for n in range(OLD_CLASSES)],
    )
    return folder


def names(place: Path) -> tuple[str, str, str]:
    return f"arrays:{place / 'digits.npz'}", f"run:{place / 'run'}", "random:digits-convnet"


def test_the_table_has_a_row_a_backbone_with_its_scores_and_their_rank_correlation(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"--config.{setting}" for setting in SETTINGS]
    command = ["rank", *names(place), *settings, "--workdir", str(tmp_path / "rank")]
    assert cli.main(command) == 0
    heading, _, *rows = (tmp_path / "rank" / "table.md").read_text().splitlines()
    assert heading == (
        "| backbone | probe accuracy, % | logme | h_score | transrate | gbc | leep | nce |"
    )
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert {cells[0][0], cells[1][0]} == set(names(place)[1:])
    reached = [float(row[1].split()[0]) for row in cells[:2]]
    assert reached == sorted(reached, reverse=True)
    by_name = {row[0]: row for row in cells}
    assert by_name["random:digits-convnet"][6:] == ["", ""]  # no head that it was trained with
    assert all(re.fullmatch(r"-?\d+\.?\d* ± \d+\.?\d*", cell) for cell in cells[0][2:6])
    assert all(cell in ("", "1.00", "-1.00") for cell in by_name["tau"][2:6])
    assert by_name["tau"][6:] == ["", ""]  # one backbone has no order
    assert "logme puts" in capsys.readouterr().out
    assert "Score and accuracy" in (tmp_path / "rank" / workdir.REPORT).read_text()


def test_scores_read_the_training_examples_alone_through_the_backbone_and_its_old_head(
    place: Path, tmp_path: Path
) -> None:
    data, left, _ = names(place)
    config = compared.trained(data, names(place)[1:], SETTINGS)[compared.folder_name(left)]
    run = prepare(config, tmp_path)
    found = ranking.transferability_of(run)

    images, labels = run.domains.source_train.array(), run.domains.source_train.known_labels()
    assert len(labels) == 36  # three quarters
    model = saved.read(place / "run")
    features, _ = chain(digits(image_size=SIZE).blocks()).apply(
        model.params["backbone"], {}, images, train=False, rng=None
    )
    features = np.asarray(features, np.float64)
    dense = model.params["head"]["dense"]
    probabilities = scipy.special.softmax(features @ dense["kernel"] + dense["bias"], axis=1)
    unit = features / np.sqrt((features**2).mean())
    expected = {
        "logme": transferability.logme(unit, labels),
        "h_score": transferability.h_score(unit, labels),
        "transrate": transferability.transrate(unit, labels),
        "gbc": transferability.gbc(unit, labels),
        "leep": transferability.leep(probabilities, labels),
        "nce": transferability.nce(probabilities.argmax(axis=1), labels),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("backbones", "settings", "message"),
    [
        ((), (), "rank needs two backbones or more"),
        (("random:digits-convnet",), (), "rank needs two backbones or more"),
        (("random:digits-convnet",) * 2, (), "random:digits-convnet is named twice"),
        (("random:digits-convnet", "random:digit-convnet"), (), "did you mean digits-convnet"),
        (("random:digits-convnet", "run:nowhere"), (), "no finished run in nowhere"),
        (("random:digits-convnet", "features:3"), (), "features:3 is no backbone"),
        (BOTH, ("stepz=3",), "did you mean steps"),
        (BOTH, ("model.backbone=random:digits-convnet",), "rank compares backbones alike"),
        (BOTH, ("data.source=embedded:mnist",), "rank compares backbones alike"),
        (BOTH, ("seed=7",), r"can only be told steps, batch_size, optimizer\.\*"),
        (BOTH, ("model.bottleneck=16",), "rank compares backbones alike"),
    ],
)
def test_what_cannot_be_ranked_is_one_line(
    backbones: tuple[str, ...], settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared.trained("embedded:mnist", backbones, settings)


@pytest.mark.parametrize("words", [["rank"], ["rank", "embedded:mnist"]])
def test_a_command_that_names_too_little_says_how_it_is_written(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert "jtl rank DATA BACKBONE BACKBONE" in capsys.readouterr().err
