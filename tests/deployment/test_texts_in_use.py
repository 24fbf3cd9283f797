"""A model that was trained on texts, in use."""

from pathlib import Path

import jax
import numpy as np
import pytest
import small_sentences

import jtl
from jtl.data.texts import tokens
from jtl.deployment import trained
from jtl.errors import UserError
from jtl.models import bert, families, heads, saved
from jtl.models.chain import chain, prefixed
from jtl.shell import cli


@pytest.fixture
def model(tmp_path: Path) -> trained.Trained:
    """A small network at random, read from its file."""
    shape = bert.Shape(
        width=8, layers=1, heads=2, hidden=8, vocabulary=len(small_sentences.WORDS), positions=64
    )
    found = families.backbone("it", "bert", shape, small_sentences.tokenization(longest=64))
    blocks = (*prefixed("backbone", found.blocks()), ("head", heads.head(8, 2)))
    params, _ = jax.jit(chain(blocks).init)(jax.random.key(0))
    columns = {"text": "review", "label": "stars"}
    saved.write(tmp_path, params, {}, found, ["dull", "fine"], columns=columns)
    return jtl.load(tmp_path)


def test_texts_are_told_apart_whatever_stands_beside_them(model: trained.Trained) -> None:
    texts = ["good film", "a very bad film", "good " * 30]
    together = model.predict(texts)
    assert together.probabilities.shape == (3, 2) and together.features.shape == (3, 8)
    assert np.ptp(together.probabilities[:, 0]) > 1e-3
    rows, _ = tokens(texts, small_sentences.tokenization(longest=64))
    function = trained.outputs_of(model.whole.blocks)
    expected, _ = function(model.whole.weights, rows)
    np.testing.assert_allclose(together.probabilities, expected, atol=1e-6)
    alone = model.predict(texts[:1])
    np.testing.assert_allclose(alone.probabilities[0], together.probabilities[0], atol=1e-6)


def test_the_column_of_texts_is_that_of_training(model: trained.Trained, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("stars,text,review\n1,no,good film\n2,no,bad\n")
    found, expected = model.predict(table), model.predict(["good film", "bad"])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_a_file_of_no_texts_and_texts_that_are_cut_are_said(
    model: trained.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model.classes == ("dull", "fine")
    empty, long = tmp_path / "empty.txt", tmp_path / "long.txt"
    empty.write_text("\n \n")
    assert cli.main(["predict", str(tmp_path), str(empty)]) == 2
    assert capsys.readouterr().err.endswith("empty.txt: holds no input; name what is to be read\n")
    long.write_text("good\n" + "good " * 100)
    assert cli.main(["predict", str(tmp_path), str(long)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 3
    assert captured.err == "jtl: 1 of 2 texts were cut after 64 tokens\n"
    assert model.predict(long).notes == ("1 of 2 texts were cut after 64 tokens",)


def test_a_limit_that_leaves_nothing_of_a_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"max_tokens is 2, and 2 tokens frame each text"):
        tokens(["good"], small_sentences.tokenization(longest=2))
