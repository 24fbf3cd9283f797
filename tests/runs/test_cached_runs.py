"""Runs that train from what is stored: the same models, of less work, without being asked."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_runs as runs
import small_sentences
from kept import Kept
from ml_collections import ConfigDict
from PIL import Image
from test_resume import Job

from jtl import configuration
from jtl.data import folder
from jtl.data.kept import Kept as Decoded
from jtl.errors import UserError
from jtl.frozen import cache, listing
from jtl.frozen.store import Rows
from jtl.runs import prepare, train
from jtl.shell import cli
from jtl.training.network import Network

pytestmark = pytest.mark.usefixtures("one_device", "without_pictures")

FROZEN = (("backbone/.*", "freeze"), (".*", "train"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and the same the other way round."""
    folder = tmp_path_factory.mktemp("data")
    runs.picture_config(folder)
    for file in sorted((folder / "pictures").rglob("*.png")):
        other = folder / "others" / file.parent.name / f"other-{file.name}"
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).rotate(180).save(other)
    return folder


def probe(data: Path) -> ConfigDict:
    made = runs.picture_config(data, partition=FROZEN)
    made.model.bottleneck = 0
    return made


def dann(data: Path) -> ConfigDict:
    made = runs.picture_config(data, partition=FROZEN)
    made.data.target = f"folder:{data / 'others'}"
    made.method = {"name": "dann", "width": 8}
    return made


def last_block(data: Path) -> ConfigDict:
    """The last block of a network with batch norm in all of them; below, it runs on what is stored
    of it.
    """
    made = runs.picture_config(data)
    made.model.backbone = "random:digits-convnet-bn"
    made.partition = (("backbone/stage.*", "freeze"), (".*", "train"))
    return made


def trained(made: ConfigDict, folder: Path) -> dict[str, np.ndarray]:
    assert train.run(made, folder) == 0
    return runs.model(folder)


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("config", [probe, dann, last_block])
def test_a_run_from_what_is_stored_trains_the_model_of_one_that_stores_nothing(
    config: Callable[[Path], ConfigDict], data: Path, tmp_path: Path, kept: Kept, capsys
) -> None:
    made = config(data)
    first = trained(made, tmp_path / "first")
    assert sum(kept.computed) == (48 if made.data.target else 24)
    assert f" s, {sum(kept.computed)} examples being new" in capsys.readouterr().out
    kept.forget()
    second = trained(made, tmp_path / "second")
    assert kept.computed == [] and " s, 0 examples being new" in capsys.readouterr().out
    for name, leaf in first.items():
        np.testing.assert_array_equal(second[name], leaf, err_msg=name)
    shutil.rmtree(kept.place)
    kept.forget()
    made.cache = False
    assert_equal(trained(made, tmp_path / "uncached"), first)
    assert "frozen blocks run at every step: cache is off" in capsys.readouterr().out
    assert kept.computed == [] and not kept.place.exists()


def test_what_does_not_fit_in_memory_is_trained_on_from_disk(
    data: Path, tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(dann(data), tmp_path / "memory")
    monkeypatch.setattr(prepare, "MEMORY_LIMIT", 1000)
    kept.forget()
    stored = prepare.prepare(dann(data), tmp_path / "none").stored
    assert isinstance(stored.source_test.inputs, Rows) and kept.computed == []
    assert_equal(trained(dann(data), tmp_path / "disk"), expected)


def test_a_run_that_went_on_from_the_store_ends_as_one_that_did_not_stop(
    data: Path, tmp_path: Path, kept: Kept
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = trained(dann(data), whole)
    shutil.copytree(whole, parts)
    (parts / "summary.json").unlink()
    shutil.rmtree(parts / "checkpoints" / "4")
    kept.forget()
    found = trained(dann(data), parts)
    assert kept.computed == []
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


@pytest.fixture
def streamed(data: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    """A config that trains all of a network on images that do not fit in memory."""
    monkeypatch.setattr(folder, "load", partial(folder.load, memory_limit=0))
    return runs.picture_config(data)


def test_images_that_do_not_fit_in_memory_are_kept_decoded(
    streamed: ConfigDict, tmp_path: Path, kept: Kept, capsys
) -> None:
    run, shared = prepare.prepare(streamed, tmp_path), prepare.Shared()
    assert (
        f"images are decoded once: while this lasts, {kept.place} holds" in capsys.readouterr().out
    )
    assert isinstance(run.labelled.inputs, Decoded) and isinstance(
        run.stored.source_test.inputs, Decoded
    )
    lanes = [prepare.prepare(streamed, tmp_path, shared) for _ in range(2)]
    assert lanes[0].labelled.inputs is lanes[1].labelled.inputs
    streamed.partition = FROZEN  # what the blocks give is kept then
    frozen = prepare.prepare(streamed, tmp_path)
    assert not isinstance(frozen.domains.source_train.inputs, Decoded)


@pytest.mark.parametrize("why", ["cache", "limit", "folder"])
def test_images_that_may_not_be_kept_are_decoded_again(
    why: str, streamed: ConfigDict, tmp_path: Path, kept: Kept, monkeypatch, capsys
) -> None:
    said = {
        "cache": "",
        "limit": f"images are decoded in every epoch: {kept.place} has no room for 0.0 GiB",
        "folder": f"images are decoded in every epoch: {kept.place} cannot be written (",
    }
    if why == "cache":
        streamed.cache = False
    elif why == "limit":
        monkeypatch.setenv(cache.LIMIT, "0")
    else:
        kept.place.write_text("a file")
    run = prepare.prepare(streamed, tmp_path)
    assert not isinstance(run.labelled.inputs, Decoded)
    assert said[why] in (out := capsys.readouterr().out) and "decoded once" not in out


COUNTED = """
import os
from pathlib import Path

import jax
from jtl.frozen import features, store
from jtl.runs import prepare

def note(kind, text):
    name = f"{{kind}}-{{jax.process_index()}}-{{jax.process_count()}}"
    with Path({folder!r}, name).open("a") as file:
        file.write(f"{{text}}\\n")

def reading(rows, index, read=store.Rows.__getitem__):
    note("read", rows.stamp(index))
    return read(rows, index)

def computing(run, inputs, streamed=features.streamed, **settings):
    note("computed", len(inputs))
    return streamed(run, inputs, **settings)

if prepare.MEMORY_LIMIT != 1000:  # this file is run twice
    os.environ |= {told!r}
    prepare.MEMORY_LIMIT = 1000
    store.Rows.__getitem__, features.streamed = reading, computing
"""
"""Before a config: outputs do not fit in memory, and each process notes what it reads of them."""


def noted(folder: Path, kind: str, process: int, processes: int) -> list[str]:
    return (folder / f"{kind}-{process}-{processes}").read_text().split()


def test_each_process_of_a_job_computes_and_reads_its_part_alone(
    data: Path, tmp_path: Path, kept: Kept
) -> None:
    """Of outputs that are above memory, in one folder; the model is that of one process."""
    file = runs.as_file(dann(data), tmp_path / "config.py")
    told = {cache.PLACE: str(kept.place), cache.LIMIT: "1"}
    file.write_text(COUNTED.format(folder=str(tmp_path), told=told) + file.read_text())
    codes, outputs = Job((file, file), tmp_path / "job", jax_detects=False).end()
    assert codes == [0, 0], outputs
    assert len(kept.names()) == 1
    code, output = runs.Process(file, tmp_path / "alone").end()
    assert code == 0 and " s, 0 examples being new" in output, output
    assert_equal(runs.model(tmp_path / "alone"), runs.model(tmp_path / "job"))
    computed = [sum(map(int, noted(tmp_path, "computed", rank, 2))) for rank in (0, 1)]
    assert sum(computed) == 48 and min(computed) > 20
    alone, *each = (noted(tmp_path, "read", rank, of) for rank, of in ((0, 1), (0, 2), (1, 2)))
    assert sorted(each[0] + each[1]) == sorted(alone)
    assert max(map(len, each)) < 0.6 * len(alone)


def test_augmentation_is_why_nothing_is_stored(data: Path, tmp_path: Path, kept: Kept, capsys):
    made = probe(data)
    made.data.augment = "flip"
    run = prepare.prepare(made, tmp_path / "none")
    assert run.net.cut == 0 and run.stored.source_train.inputs.dtype == np.uint8
    said = capsys.readouterr().out
    assert "the 3 frozen blocks run at every step: data.augment changes the images each" in said
    assert not kept.place.exists()


@pytest.mark.parametrize(
    ("cached", "said"), [(True, "what the frozen blocks give"), (False, "the inputs")]
)
def test_a_method_that_changes_inputs_says_what_it_changes(
    cached: bool, said: str, data: Path, tmp_path: Path, kept: Kept, capsys
) -> None:
    made = dann(data)
    made.method, made.cache = {"name": "fixmatch"}, cached
    prepare.prepare(configuration.complete(made, "test"), tmp_path / "none")
    assert f"fixmatch changes {said}, as that is what training reads" in capsys.readouterr().out


def cut(data: Path, tmp_path: Path, rules: tuple[tuple[str, str], ...]) -> int:
    made = last_block(data)
    made.partition = rules
    return prepare.prepare(made, tmp_path / "none").net.cut


def test_a_block_whose_batch_norm_moves_is_not_cut(data: Path, tmp_path: Path) -> None:
    assert cut(data, tmp_path, (("backbone/stage.*", "freeze"), (".*", "train"))) == 2
    moving = (
        ("backbone/stage2/norm/bias", "train"),
        ("backbone/stage.*", "freeze"),
        (".*", "train"),
    )
    assert cut(data, tmp_path, moving) == 1


def folders_of(made: ConfigDict, kept: Kept, tmp_path: Path) -> set[str]:
    before = kept.names()
    prepare.prepare(configuration.complete(made, "test"), tmp_path / "none")
    return kept.names() - before


def test_image_size_precision_and_pooling_are_part_of_the_key(
    data: Path, tmp_path: Path, kept: Kept
) -> None:
    for setting, value in (("image_size", 8), ("image_size", 12), ("compute", "bfloat16")):
        made = probe(data)
        made.model[setting] = value
        assert len(folders_of(made, kept, tmp_path)) == 1
    small_sentences.checkpoint(tmp_path / "encoder")
    table = small_sentences.reviews(tmp_path / "films.csv", about="film")
    for pooling in ("mean", "class"):
        made = runs.config(data, partition=FROZEN, batch_size=8)
        made.data.source, made.data.target = f"csv:{table}", ""
        made.data.text_column, made.data.label_column = "review", "said"
        made.model.backbone, made.model.pooling = f"file:{tmp_path}/encoder", pooling
        made.method, made.keep.criterion = {"name": "supervised"}, "source_risk"
        assert len(folders_of(made, kept, tmp_path)) == 1
    assert folders_of(made, kept, tmp_path) == set()


def test_the_features_command_uses_what_runs_stored_and_stores_what_runs_use(
    data: Path, tmp_path: Path, kept: Kept
) -> None:
    words = [
        "features",
        "random:digits-convnet",
        str(data / "pictures"),
        "--config.model.image_size=8",
    ]

    def written(*more: str) -> np.ndarray:
        kept.forget()
        assert cli.main([*words, "-o", str(tmp_path / "out.npz"), *more]) == 0
        with np.load(tmp_path / "out.npz") as arrays:
            return arrays["features"]

    expected = written("--config.cache=False")
    assert not kept.place.exists()
    np.testing.assert_array_equal(written(), expected)
    assert kept.computed == [24]
    np.testing.assert_array_equal(written(), expected)
    assert kept.computed == []
    kept.forget()
    run = prepare.prepare(probe(data), tmp_path / "none")
    assert kept.computed == [] and isinstance(run.net, Network)


def test_what_is_stored_is_listed_and_removed(
    data: Path, tmp_path: Path, kept: Kept, capsys
) -> None:
    assert cli.main(["cache", "ls"]) == 0
    assert capsys.readouterr().out == f"0.0 MiB of 1,024.0 MiB in {kept.place}\n"
    for size in (8, 12):
        made = probe(data)
        made.model.image_size = size
        prepare.prepare(made, tmp_path / "none")
    (kept.place / "mine").mkdir()  # no business of jtl's
    capsys.readouterr()
    assert cli.main(["cache", "ls"]) == 0
    heading, first, second, total = capsys.readouterr().out.splitlines()
    assert " ".join(heading.split()) == "name backbone up to rows shape size last used"
    name, backbone, last, rows, shape, size, unit, day, _ = first.split()
    assert (backbone, last, rows, shape) == ("digits-convnet", "backbone/dense", "24", "128")
    assert unit == "MiB" and day.count("-") == 2 and total.endswith(str(kept.place))
    assert cli.main(["cache", "rm", name[:12]]) == 0
    assert capsys.readouterr().out.startswith("removed 1: 0.0 MiB")
    assert kept.names() == {second.split()[0]}
    assert cli.main(["cache", "rm", name]) == 2
    assert f"nothing is called {name}" in capsys.readouterr().err
    assert cli.main(["cache", "rm", "--all"]) == 0
    assert [path.name for path in kept.place.iterdir()] == ["mine"]
    assert cli.main(["cache", "rm", name]) == 2
    assert f"nothing is kept in {kept.place}" in capsys.readouterr().err


def test_names_that_begin_alike_have_to_be_told_apart(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in "ab":
        (kept.place / f"{'0' * 15}{end}").mkdir(parents=True)
    with pytest.raises(UserError, match=r"000 begins the names 0.*a, 0.*b; write more"):
        listing.remove(["000"])
    assert len(listing.remove([])) == 2
