"""What a trained model is asked about: which files are read, and what is said of the others."""

import io
from pathlib import Path

import numpy as np
import pytest
import small_sentences
from PIL import Image

from jtl.data import inputs
from jtl.data.inputs import Taken
from jtl.errors import UserError
from jtl.types import Preprocess, Sound

GREY = Preprocess(4, 1, (0.0,), (1.0,))
IMAGES, VECTORS = Taken(GREY, 8), Taken(None, 2)
TEXTS = Taken(small_sentences.tokenization(), 8)


def read(words: list[str], taken: Taken) -> tuple[dict[str, np.ndarray], list[str]]:
    """All that can be read by name, and why the rest cannot."""
    items, unread = inputs.named(words, taken)
    found = {}
    for chunk in inputs.chunks(items, taken):
        rows = () if chunk.rows is None else chunk.rows
        found |= zip(chunk.names, rows, strict=True)
        unread += chunk.unread
    return found, unread


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two images in it, one of them below it, and what is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    Image.new("L", (4, 4), 7).save(tmp_path / "photos" / "deep" / "seven.PNG")
    Image.new("RGB", (9, 5), (50, 50, 50)).save(tmp_path / "photos" / "wide.png")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    (tmp_path / "photos" / "notes.doc").write_text("no image")
    return tmp_path


def test_a_folder_stands_for_all_images_in_and_below_it(place: Path) -> None:
    found, unread = read(["photos"], IMAGES)
    assert {name: row[0, 0, 0] for name, row in found.items()} == {
        "photos/deep/seven.PNG": 7,
        "photos/wide.png": 50,
    }
    assert {row.shape for row in found.values()} == {(4, 4, 1)} and not unread


def test_what_cannot_be_read_is_said_and_the_rest_is_read(place: Path) -> None:
    (place / "broken.png").write_bytes(b"no image")
    (place / "photos" / "damaged.npz").write_bytes(b"no archive")
    (place / "empty").mkdir()
    words = ["broken.png", "photos", "no.png", "photos/notes.doc", "empty"]
    found, unread = read(words, IMAGES)
    assert list(found) == ["photos/deep/seven.PNG", "photos/wide.png"]
    assert [line.partition(":")[0] for line in unread] == [
        "photos/damaged.npz",
        "no.png",
        "photos/notes.doc",
        "empty",
        "broken.png",
    ]
    said = "\n".join(unread)
    assert "no.png: there is no such file or folder" in said
    assert "photos/notes.doc: this model takes images, in files that end in .bmp" in said
    assert "empty: holds no file that this model takes" in said
    assert "broken.png: cannot be decoded" in said


def test_arrays_hold_images_or_vectors(place: Path) -> None:
    np.savez("images.npz", inputs=np.full((2, 8, 8, 1), 9, np.uint8))
    np.savez("vectors.npz", inputs=np.array([[1, 2], [3, np.nan]]))
    found, unread = read(["images.npz"], IMAGES)
    assert list(found) == ["images.npz[0]", "images.npz[1]"] and not unread
    assert found["images.npz[1]"].shape == (4, 4, 1) and (found["images.npz[1]"] == 9).all()
    found, unread = read(["vectors.npz"], VECTORS)
    assert {name: row.tolist() for name, row in found.items()} == {"vectors.npz[0]": [1, 2]}
    assert "vectors.npz[1]: inputs[0, 1] is nan" in unread[0]
    (unread,) = read(["vectors.npz"], Taken(None, 3))[1][:1]
    assert unread == "vectors.npz[0]: has 2 numbers, and this model takes 3"


def test_tables_hold_vectors(place: Path) -> None:
    Path("heads.csv").write_text("label,b,name,a\ncat,1,first,2\n\ndog,x,second,2\ndog,,third,1\n")
    found, unread = read(["heads.csv"], VECTORS)
    assert {name: row.tolist() for name, row in found.items()} == {"first": [1, 2]}
    assert unread == [
        "heads.csv:2: 'x' is no number; mend or remove that row",
        "heads.csv:3: None is no number; mend or remove that row",
    ]
    Path("lines.jsonl").write_text('{"a": 1, "b": 2e1}\n{"a": 3, "b": 4}\n')
    found, unread = read(["lines.jsonl"], VECTORS)
    assert {name: row.tolist() for name, row in found.items()} == {
        "lines.jsonl:1": [1, 20],
        "lines.jsonl:2": [3, 4],
    }
    Path("plain.csv").write_text("1,2\n3,4e1\n")
    assert read(["plain.csv"], VECTORS) == (
        {},
        ["csv:plain.csv: its first line holds numbers; name the columns there"],
    )
    Path("wide.csv").write_text("a,b,c\n1,2,3\n")
    assert read(["wide.csv"], VECTORS)[1] == ["wide.csv:1: has 3 numbers, and this model takes 2"]


def test_texts_are_lines_or_a_column(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lines.txt").write_text("good film\n\n  bad \n")
    found, unread = read(["lines.txt"], TEXTS)
    assert not unread and {name: row.tolist()[:5] for name, row in found.items()} == {
        "lines.txt:1": [2, 4, 8, 3, 0],
        "lines.txt:3": [2, 5, 3, 0, 0],
    }
    Path("table.csv").write_text("name,text,more\none,bad,x\ntwo,,y\n")
    found, unread = read(["table.csv"], TEXTS)
    assert {name: row.tolist()[:4] for name, row in found.items()} == {"one": [2, 5, 3, 0]}
    assert unread == ["table.csv:2: holds no text"]
    found, _ = read(["table.csv"], TEXTS._replace(text="name"))
    assert list(found) == ["one", "two"], "the texts may be the names"
    Path("none.csv").write_text("words\nbad\n")
    assert read(["none.csv"], TEXTS)[1] == ["none.csv: has no column 'text'; it has words"]
    monkeypatch.setattr("sys.stdin", io.StringIO("very bad\n"))
    found, unread = read(["-"], TEXTS)
    assert [(name, row.tolist()[:4]) for name, row in found.items()] == [
        ("standard input:1", [2, 7, 5, 3])
    ]
    assert read(["-"], VECTORS)[1] == ["-: there is no such file or folder"]
    items = inputs.given(["good", Path("lines.txt")], TEXTS)
    assert [item.read() for item in items] == ["good", "good film", "bad"]


def test_more_inputs_than_are_read_at_a_time_stay_in_order(place: Path) -> None:
    count = inputs.CHUNK + 3
    np.savez("many.npz", inputs=np.arange(2 * count).reshape(count, 2))
    found, _ = read(["many.npz"], VECTORS)
    np.testing.assert_array_equal(np.stack(list(found.values()))[:, 0], np.arange(0, 2 * count, 2))


def test_a_program_hands_over_images_of_every_kind(place: Path) -> None:
    red = Image.new("RGB", (6, 6), (255, 0, 0))
    array = np.full((5, 5, 3), 9, np.uint8)
    items = inputs.given([red, array, place / "photos"], IMAGES)
    (chunk,) = inputs.chunks(items, IMAGES)
    assert chunk.rows is not None and chunk.rows.shape == (4, 4, 4, 1)
    # Red is dark in grey: ITU-R 601.
    assert chunk.rows[:, 0, 0, 0].tolist() == [76, 9, 7, 50]
    assert chunk.names[:2] == ["inputs[0]", "inputs[1]"]
    assert len(inputs.given(np.zeros((3, 8, 8, 1), np.uint8), IMAGES)) == 3
    assert len(inputs.given(red, IMAGES)) == 1
    with pytest.raises(UserError, match=r"no\.png: there is no such file"):
        inputs.given(["no.png"], IMAGES)
    with pytest.raises(UserError, match=r"\(5, 5, 3\) is one image, or .* give .* \[image\]"):
        inputs.given(array, IMAGES)


def test_an_opened_image_that_breaks_off_is_named(place: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save("cut.jpg")
    whole = Path("cut.jpg").read_bytes()
    Path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    with Image.open("cut.jpg") as opened:
        (chunk,) = inputs.chunks(inputs.given([opened], IMAGES), IMAGES)
    assert chunk.rows is None
    assert [line.partition(" (")[0] for line in chunk.unread] == ["inputs[0]: cannot be decoded"]


def test_a_model_of_sounds_reads_archives_alone(place: Path) -> None:
    _, unread = inputs.named(["photos"], Taken(Sound((0,)), 8))
    assert unread == ["photos: holds no file that this model takes (.npz)"]
