"""What frozen blocks gave is kept on disk: read by whom it fits, and by nobody else."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick_compiles
import toys
from kept import Kept
from safetensors.numpy import save_file

from jtl.data.examples import Examples
from jtl.devices import sharding
from jtl.errors import UserError
from jtl.frozen import cache, features, listing, store
from jtl.frozen.features import Prefix, below
from jtl.models.chain import chain

pytestmark = pytest.mark.usefixtures("one_device")

WIDTH = 8
BLOCKS = toys.dense_blocks(WIDTH)


def prefix(cut: int = 2, seed: int = 0, **settings: Any) -> Prefix:
    blocks = BLOCKS[:cut]
    params, _ = chain(BLOCKS).init(jax.random.key(seed))
    return Prefix("toy", blocks, below(params, blocks), {}, **{"on_disk": True} | settings)


def examples(count: int, first: int = 0) -> Examples:
    """Vectors; one has the same content whatever the others are."""
    inputs = np.random.default_rng(0).normal(size=(first + count, toys.INPUTS))[first:]
    names = np.arange(first, first + count).astype(str)
    return Examples("toy", inputs.astype(np.float32), None, (), names, names)


# --- what is found --------------------------------------------------------------------------------


def test_what_one_process_has_run_no_other_runs_again(kept: Kept) -> None:
    given, first = examples(40), prefix()
    expected = first(given).array()
    assert kept.computed == [40] and first.new == 40
    model = chain(BLOCKS[:2])
    params, _ = chain(BLOCKS).init(jax.random.key(0))
    outputs, _ = model.apply(params, {}, given.inputs, train=False, rng=None)
    np.testing.assert_allclose(expected, outputs, rtol=1e-5, atol=1e-6)
    kept.forget()
    again = prefix()
    np.testing.assert_array_equal(again(given).array(), expected)
    assert kept.computed == [] and again.new == 0


def test_other_choices_of_examples_share_what_they_have_in_common(kept: Kept) -> None:
    all_of_them = prefix()(examples(50)).array()
    kept.forget()
    few = examples(50).take([7, 3, 3, 49])
    np.testing.assert_array_equal(prefix()(few).array(), all_of_them[[7, 3, 3, 49]])
    assert kept.computed == []
    more = prefix()(examples(20, first=40)).array()
    assert kept.computed == [10]
    np.testing.assert_array_equal(more[:10], all_of_them[40:])


def test_the_bits_of_a_row_do_not_depend_on_what_was_run_with_it(kept: Kept) -> None:
    """So a run that goes on reads what it began with, whoever wrote it."""
    together = prefix()(examples(200)).array()
    shutil.rmtree(kept.place)
    kept.forget()
    parts = [
        prefix()(examples(count, first)).array() for first, count in ((0, 3), (3, 66), (69, 131))
    ]
    assert kept.computed == [3, 66, 131]
    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_all_devices_share_a_batch(
    kept: Kept, one_device: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prefix()(examples(200)).array()
    shutil.rmtree(kept.place)
    kept.forget()
    monkeypatch.setattr(sharding, "mesh", one_device)  # gives all of them
    monkeypatch.setattr(features, "BATCH", 8)
    made, shares = prefix(), []
    run = made._run

    def seen(weights: Any, rows: jax.Array) -> jax.Array:
        if len(rows) > 1:
            shares.append([shard.data.shape[0] for shard in rows.addressable_shards])
        return run(weights, rows)

    made._run = seen
    np.testing.assert_allclose(made(examples(200)).array(), expected, rtol=1e-6, atol=1e-6)
    assert shares == [[8] * 8] * 4


def test_another_cut_weight_precision_or_name_is_another_prefix(kept: Kept) -> None:
    given = examples(4)

    def bfloat16() -> Prefix:
        with jax.default_matmul_precision("bfloat16"):
            made = prefix()
            made(given)
            return made

    made = [prefix(), prefix(cut=1), prefix(seed=1)]
    outputs = [each(given).array() for each in made]
    bfloat16()
    assert len(kept.names()) == 4 and kept.computed == [4] * 4
    assert not np.array_equal(outputs[0], outputs[2])
    kept.forget()
    prefix()(given), prefix(cut=1)(given), prefix(seed=1)(given), bfloat16()
    assert kept.computed == []


def test_what_blocks_hold_beside_their_weights_is_another_prefix(kept: Kept) -> None:
    """As the program that is hashed has it: jax may hand such arrays over beside it."""
    given, expected = examples(4), prefix()(examples(4)).array()
    ((path, model), second) = BLOCKS[:2]

    def scaled(scale: float) -> Prefix:
        factors = np.full((1, 64), scale, np.float32)  # small ones are always in the program

        def apply(params: Any, stats: Any, inputs: Any, *, train: Any, rng: Any) -> Any:
            return model.apply(
                params, stats, inputs * jnp.asarray(factors)[:, : toys.INPUTS], train=train, rng=rng
            )

        made = prefix()
        return Prefix("toy", ((path, model._replace(apply=apply)), second), *made._weights)

    outputs = [scaled(scale)(given).array() for scale in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-5)
    assert kept.computed == [4] * 4
    assert not np.array_equal(outputs[1], outputs[2])


def test_blocks_without_parameters_and_a_limit_of_0_write_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    weightless = (("backbone/stem", toys.dense(1, 1)._replace(apply=_doubled)),)
    Prefix("twice", weightless, {}, {}, on_disk=True)(examples(4))
    prefix(on_disk=False)(examples(4))
    monkeypatch.setenv(cache.LIMIT, "0")
    prefix()(examples(4))
    assert kept.computed == [4, 4] and not kept.place.exists()


def _doubled(params: Any, stats: Any, inputs: Any, *, train: Any, rng: Any) -> Any:
    return 2 * inputs, stats


def test_images_that_are_not_in_memory_are_known_by_their_files(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from jtl.data import folder, images
    from jtl.models import digits_convnet
    from jtl.models.chain import prefixed

    for index in range(5):
        Image.new("L", (8, 8), 40 * index).save(tmp_path / f"{index}.bmp")
    found = digits_convnet.backbone(image_size=8)
    blocks = prefixed("backbone", found.blocks())
    params, stats = jax.jit(chain(blocks).init)(jax.random.key(0))

    def features_of() -> np.ndarray:
        made = Prefix("digits", blocks, params, stats, on_disk=True)
        return made(folder.load(str(tmp_path), found.wanted, memory_limit=0)).array()

    expected, decode, decoded = features_of(), images.decode, []
    monkeypatch.setattr(images, "decode", lambda *a: decoded.append(a) or decode(*a))
    kept.forget()
    np.testing.assert_array_equal(features_of(), expected)
    assert kept.computed == [] and len({path for path, _ in decoded}) == 1  # for its shape
    Image.new("L", (8, 8), 250).save(tmp_path / "3.bmp")  # as long as before
    changed = features_of()
    assert kept.computed == [1]
    assert [np.array_equal(*pair) for pair in zip(changed, expected, strict=True)].index(False) == 3


# --- kills, other writers, damage -----------------------------------------------------------------

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["jtl.frozen.features", "toys", "quick_compiles"])


def started(function: Any, *arguments: Any) -> Any:
    """A process with jax as it is here, on one device."""
    given = function, quick_compiles.installed, *arguments
    child = _PROCESSES.Process(target=_as_here, args=given)
    child.start()
    return child


def _as_here(function: Any, options: quick_compiles.Options, place: str, *arguments: Any) -> None:
    os.environ |= {cache.PLACE: place, cache.LIMIT: "1"}
    jax.config.update("jax_default_matmul_precision", "float32")
    quick_compiles.install(options)
    features.BATCH, store.SHARD_SECONDS = 8, 0.0
    function(*arguments)


def _killed_at_the_third_shard() -> None:
    written, sync = [], os.fsync

    def die(file: int) -> None:
        sync(file)
        written.append(file)
        if len(written) == 4:  # the first is about.json
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = die
    prefix()(examples(40))


def test_a_run_that_was_killed_left_all_but_its_last_shard(kept: Kept) -> None:
    child = started(_killed_at_the_third_shard, str(kept.place))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    half_written = list(kept.place.glob("*/.*.tmp"))
    assert len(kept.shards()) == 2 and len(half_written) == 1
    prefix()(examples(40))
    assert kept.computed == [40 - 2 * 8]
    os.utime(half_written[0], (0, 0))
    prefix()(examples(41))  # writes, and looks for what nobody will finish
    assert not half_written[0].exists()


def _runs(first: int) -> None:
    prefix()(examples(60, first))


def test_two_processes_write_at_once_and_a_third_finds_all(kept: Kept) -> None:
    children = [started(_runs, str(kept.place), first) for first in (0, 30)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    found = prefix()(examples(90)).array()
    assert kept.computed == [] and len(kept.names()) == 1 and len(kept.shards()) > 10
    expected = prefix(on_disk=False)(examples(90)).array()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)  # in batches of 8


def test_commands_that_are_started_at_once_begin_at_different_examples(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that began in the middle reads what another wrote that began before."""
    monkeypatch.setattr(features, "PIECE", 10)
    choices, own, order = [], features.Store.add, []

    def middle(pieces: int) -> int:
        choices.append(pieces)
        return 2

    def other_writes(self: store.Store, names: list[str], rows: np.ndarray) -> None:
        if not order:
            other = store.Store(self._folder, {})
            own(other, examples(15).fingerprints, first)
            other.flush()
        order.extend(names)
        own(self, names, rows)

    first = prefix(on_disk=False)(examples(15)).array()
    kept.computed.clear()
    monkeypatch.setattr(features, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(features.random, "randrange", middle)
    monkeypatch.setattr(features.Store, "add", other_writes)
    found = prefix()(examples(35)).array()
    assert choices == [4] and kept.computed == [10, 5, 5]
    assert order == examples(15, first=20).fingerprints + examples(5, first=15).fingerprints
    np.testing.assert_array_equal(found[:15], first)
    assert "example 35/35  100%" in capsys.readouterr().err


def test_processes_of_a_job_begin_at_different_examples_and_read_what_others_wrote(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PIECE", 10)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(features.sharding, "own", lambda devices: devices)
    own, first, order = features.Store.add, prefix(on_disk=False)(examples(20)).array(), []

    def other_writes(self: store.Store, names: list[str], rows: np.ndarray) -> None:
        """The first process of the job has done its half while this one does its first piece."""
        if not order:
            other = store.Store(self._folder, {})
            own(other, examples(20).fingerprints, first)
            other.flush()
        order.extend(names)
        own(self, names, rows)

    kept.computed.clear()
    monkeypatch.setattr(features.Store, "add", other_writes)
    prefix()(examples(40))
    assert kept.computed == [10, 10] and order == examples(20, first=20).fingerprints


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def _replace(file: Path) -> None:
    file.unlink()
    save_file({"rows": np.ones((3, 2), np.float32), "other": np.ones(3)}, file)


DAMAGE = {
    "truncated": _truncate,
    "a flipped bit": _flip,
    "empty": lambda file: os.truncate(file, 0),
    "no shard": _replace,
    "no numbers": lambda file: file.write_text("not found\n" * 20),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_one_line_and_computed_again(
    damage: str, kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = prefix()(examples(10)).array()
    (file,) = kept.shards()
    DAMAGE[damage](file)
    kept.forget()
    np.testing.assert_array_equal(prefix()(examples(10)).array(), expected)
    said = capsys.readouterr().err
    assert said == f"jtl: {file} is damaged; it is removed, and what it held computed again\n"
    assert kept.computed == [10] and not file.exists() and len(kept.shards()) == 1


def test_a_shard_that_cannot_be_read_stays(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be whole: a process that has too many files open once took all others for damaged."""
    expected = prefix()(examples(10)).array()
    prefix()(examples(5, first=20))
    before = kept.shards()
    kept.forget()

    def refused(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for place in ((cache, "header"), (store.np, "memmap")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, refused)
            np.testing.assert_array_equal(prefix()(examples(10)).array(), expected)
        assert kept.computed == [10] and set(before) <= set(kept.shards())
        said = capsys.readouterr().err
        assert "cannot be read (Too many open files); what this and other" in said
        assert said.count("\n") == 1
        kept.forget()
    prefix()(examples(10))
    assert kept.computed == []


def test_more_shards_are_read_than_files_may_be_open_at_first(kept: Kept) -> None:
    folder = kept.place / ("0" * cache.NAME_LENGTH)
    made, names = store.Store(folder, {}), [f"{number:064x}" for number in range(80)]
    for number, name in enumerate(names):
        made.add([name], np.full((1, 2), number, np.float32))
        made.flush()
    child = started(_reads, str(kept.place), folder, names)
    child.join()
    assert child.exitcode == 0 and len(kept.shards()) == 80


def _reads(folder: Path, names: list[str]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
    found = store.Store(folder, {})
    assert found.missing(names) == []
    assert found.take(names)[:, 0].tolist() == list(range(80))


# --- the limit ------------------------------------------------------------------------------------


def limit_to(shards: float, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    size = kept.shards()[0].stat().st_size
    monkeypatch.setenv(cache.LIMIT, repr(shards * size / 2**30))


@pytest.mark.parametrize("still_in_use", [False, True])
def test_what_was_not_used_for_longest_makes_room(
    still_in_use: bool, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = {}
    for seed in (1, 2, 3):
        before = kept.names()
        prefix(seed=seed)(examples(64))
        (seeds[seed],) = kept.names() - before
    for age, file in enumerate(kept.shards()):
        os.utime(file, (age + 1, age + 1))
    kept.forget()
    first = kept.shards()[0]
    oldest, middle = (file.parent.name for file in kept.shards()[:2])
    used = next(seed for seed, name in seeds.items() if name == oldest)
    prefix(seed=used)(examples(64))
    if still_in_use:
        os.utime(first, (0, 0))  # another clock, say
    else:
        kept.forget()  # its use has made it the newest
    limit_to(3.5, kept, monkeypatch)
    prefix(seed=4)(examples(64))
    assert oldest in kept.names() and middle not in kept.names() and len(kept.names()) == 3
    assert not (kept.place / middle).exists()


def test_what_is_in_use_stays_and_a_full_folder_stops_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = prefix(seed=1)
    expected = mine(examples(64)).array()
    before = kept.shards()
    limit_to(1.5, kept, monkeypatch)
    prefix(seed=2)(examples(64))
    prefix(seed=2)(examples(64, first=64))
    assert kept.shards() == before
    assert capsys.readouterr().err == (
        f"jtl: {kept.place}: is full (JTL_CACHE_LIMIT sets its limit); what the frozen blocks give "
        "is kept in memory alone\n"
    )
    kept.computed.clear()
    np.testing.assert_array_equal(mine(examples(64)).array(), expected)
    prefix(seed=2)(examples(128))
    assert kept.computed == []


def test_half_of_a_disk_stays_free(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix(seed=1)(examples(64))
    size = kept.shards()[0].stat().st_size
    kept.forget()
    usage = shutil._ntuple_diskusage(0, 0, 2 * size)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda place: usage)
    prefix(seed=2)(examples(64))  # of three sizes, free or the store's, one may be used
    assert len(kept.shards()) == 1
    assert cache.fits(1.5 * size) and not cache.fits(1.6 * size)
    prefix(seed=3)(examples(64))
    said = capsys.readouterr().err
    assert f"{kept.place}: is full (half of its disk stays free); what the" in said
    assert f"of {listing.in_mib(1.5 * size)} in" in listing.table(listing.entries())


def test_a_folder_that_cannot_be_written_stops_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.place.write_text("a file")
    monkeypatch.setenv(cache.PLACE, str(kept.place / "below"))
    assert prefix()(examples(4)).array().shape == (4, WIDTH)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be written (Not a directory); what the" in said


@pytest.mark.parametrize("said", ["much", "-1", "nan", "inf", ""])
def test_a_limit_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, said)
    with pytest.raises(UserError, match=f"JTL_CACHE_LIMIT is '{said}'; it is a number of GiB"):
        cache.limit()


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.PLACE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache.place() == Path("/there/jtl/features")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.place() == Path.home() / ".cache" / "jtl" / "features"
    monkeypatch.setenv(cache.PLACE, "")  # and not where the command is given
    assert cache.place() == Path.home() / ".cache" / "jtl" / "features"
    monkeypatch.setenv(cache.PLACE, "~nobody-of-this-name/there")
    with pytest.raises(UserError, match="JTL_CACHE is '~nobody-of-this-name/there'; there is no"):
        cache.place()


@pytest.mark.parametrize("when", ["before it is written", "before it has its name"])
def test_who_removes_a_folder_stops_nobody_who_writes_into_it(
    when: str, kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a process does that makes room for itself, or `jtl cache rm --all`."""
    write, sync, removed = Path.write_bytes, os.fsync, []

    def remove(at: str) -> None:
        if at == when and not removed:
            removed.append(listing.remove([]))

    def writing(path: Path, content: bytes) -> int:
        remove("before it is written")
        return write(path, content)

    def syncing(file: int) -> None:
        sync(file)
        if list(kept.place.glob(f"*/.*{cache.SUFFIX}.*")):
            remove("before it has its name")

    monkeypatch.setattr(Path, "write_bytes", writing)
    monkeypatch.setattr(os, "fsync", syncing)
    prefix()(examples(10))
    assert len(removed) == len(kept.shards()) == 1 and capsys.readouterr().err == ""
    kept.forget()
    prefix()(examples(10))
    assert kept.computed == []


def test_a_folder_into_which_another_process_writes_is_left(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix()(examples(10))
    (shard,) = kept.shards()
    content, remove = shard.read_bytes(), Path.rmdir

    def late(folder: Path) -> None:
        shard.write_bytes(content)
        remove(folder)

    monkeypatch.setattr(Path, "rmdir", late)
    assert len(listing.remove([])) == 1 and kept.shards() == [shard]


def test_a_folder_that_cannot_be_read_is_one_line_and_no_room(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    kept.place.mkdir()
    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(UserError, match=r"cache: cannot be read \(Permission denied\)"):
        listing.entries()
    assert not cache.fits(1.0)


# --- on disk alone, and how far it is -------------------------------------------------------------


def test_outputs_can_stay_on_disk(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    given = examples(70)
    lazy = prefix()(given, in_memory=False)
    rows = lazy.take([5, 69]).inputs
    assert not isinstance(lazy.inputs, np.ndarray) and len(lazy) == 70
    np.testing.assert_array_equal([rows[0], rows[1]], prefix()(given).array()[[5, 69]])
    kept.forget()
    monkeypatch.setenv(cache.LIMIT, "1e-6")
    with pytest.raises(UserError, match="takes no more, and what the frozen blocks give does"):
        prefix(seed=1)(given, in_memory=False)


def test_what_takes_long_says_how_far_it_is(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix()(examples(10))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(features, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(features, "BATCH", 8)
    prefix()(replace(examples(110), name="more"))
    assert "example 100/100  100%" in capsys.readouterr().err
    prefix().rows(examples(30, first=200).array(), None)
    assert capsys.readouterr().err == "" and sum(kept.computed) == 140
