"""Texts as tokens."""

import numpy as np
import pytest
from word_tokenizer import tokenization

from jtl.data import embedded, texts
from jtl.data.examples import Examples
from jtl.errors import UserError
from jtl.types import Preprocess

IMAGES = Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)


def test_padding_and_truncation_are_ours_whatever_the_file_says() -> None:
    rows, notes = texts.tokens(["a good film", "bad"], tokenization(longest=8))
    assert rows.dtype == np.int32
    assert rows.tolist() == [[2, 6, 4, 8, 3, 0, 0, 0], [2, 5, 3, 0, 0, 0, 0, 0]]
    assert notes == ()


def test_what_is_too_long_is_cut_before_its_last_token_and_that_is_said() -> None:
    rows, notes = texts.tokens(["a very very very good film", "bad"], tokenization(longest=5))
    assert rows.tolist() == [[2, 6, 7, 7, 3], [2, 5, 3, 0, 0]]
    assert notes == ("1 of 2 texts were cut after 5 tokens",)


@pytest.mark.parametrize(("words", "length"), [(1, 16), (14, 16), (15, 32), (100, 128)])
def test_lengths_are_of_few_kinds(words: int, length: int) -> None:
    rows, _ = texts.tokens(["good " * words], tokenization(longest=512))
    assert rows.shape == (1, length)
    assert (rows[0] == 0).sum() == length - words - 2


def test_words_that_it_does_not_know_are_unknown() -> None:
    rows, _ = texts.tokens(["a splendid film"], tokenization(longest=5))
    assert rows.tolist() == [[2, 6, 1, 8, 3]]


def of(rows: np.ndarray, padding: int | None = 0) -> Examples:
    names = np.array([f"t{index}" for index in range(len(rows))])
    return Examples("t", rows, None, (), names, names, padding=padding)


def test_two_sets_are_padded_to_one_length() -> None:
    short, long = of(np.full((2, 3), 7, np.int32), 9), of(np.full((1, 5), 7, np.int32), 9)
    first, second = texts.of_one_length(short, long)
    assert first.inputs.tolist() == [[7, 7, 7, 9, 9]] * 2
    assert second.inputs.tolist() == long.inputs.tolist()
    second, first = texts.of_one_length(long, short)
    assert first.inputs.shape == (2, 5) and second.inputs.shape == (1, 5)


def test_sets_of_vectors_are_left_as_they_are() -> None:
    vectors = of(np.ones((2, 3), np.float32), None)
    assert texts.of_one_length(vectors, vectors) == (vectors, vectors)


@pytest.mark.parametrize("domain", ["amazon", "film", "nyt", "tweets"])
def test_rated_texts_are_half_positive_and_half_negative(domain: str) -> None:
    found = embedded.load(f"sentiment/{domain}", tokenization(longest=16))
    counts = {"amazon": 2960, "film": 10482, "nyt": 4360, "tweets": 2598}
    assert found.classes == ("negative", "positive")
    assert np.bincount(found.labels).tolist() == [counts[domain] // 2] * 2
    assert len(set(found.names)) == counts[domain]
    assert not any("&amp;" in text or text != text.strip() for text in found.names)


def test_ratings_are_of_the_text_they_stand_beside() -> None:
    """Had labels slipped by a row, words that praise would not differ from words that blame."""
    praise, blame = (
        ("great", "excellent", "wonderful", "love"),
        ("bad", "worst", "awful", "terrible"),
    )
    for domain in ("amazon", "film", "nyt", "tweets"):
        found = embedded.load(f"sentiment/{domain}", tokenization(longest=16))
        lower = np.char.lower(found.names)
        good, bad = (
            found.labels[np.any([np.char.find(lower, word) >= 0 for word in words], axis=0)].mean()
            for words in (praise, blame)
        )
        assert good - bad > 0.3, domain


def test_sentences_of_one_review_or_editorial_have_one_identity() -> None:
    identities = {
        domain: len(set(embedded.load(f"sentiment/{domain}", tokenization()).identities))
        for domain in ("amazon", "film", "nyt", "tweets")
    }
    assert identities["film"] == 10482 and identities["tweets"] == 2598
    assert identities["amazon"] < 310 and identities["nyt"] <= 500


@pytest.mark.parametrize("wanted", [None, IMAGES])
def test_a_backbone_that_takes_no_texts_is_refused(wanted: Preprocess | None) -> None:
    with pytest.raises(UserError, match="embedded:sentiment/film: holds texts, and this backbone"):
        embedded.load("sentiment/film", wanted)


def test_tumours_are_parted_by_their_texture_which_is_left_out() -> None:
    even, coarse = (embedded.load(f"tumours/{part}", None) for part in ("even", "coarse"))
    assert even.inputs.shape[1] == coarse.inputs.shape[1] == 27
    assert len(even) + len(coarse) == 569 and not set(even.identities) & set(coarse.identities)
    # Of scikit-learn's 569 tumours 212 are malignant, more of them coarse.
    assert even.labels.sum() + coarse.labels.sum() == 212
    assert even.labels.mean() < 0.2 < 0.5 < coarse.labels.mean()
    with pytest.raises(UserError, match="holds vectors, and this backbone takes images"):
        embedded.load("tumours/even", IMAGES)
