import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from jtl.metrics import METRICS
from jtl.records.report import flatten, verdict, write_report, write_study_report

HOSTILE = '<script>alert("x")</script> & "q" \'s\''


def split(accuracy: float) -> dict[str, dict[str, float]]:
    entry = {"value": accuracy, "low": accuracy - 0.03, "high": accuracy + 0.03}
    return dict.fromkeys(METRICS, entry)


def summary(**splits: float) -> dict[str, Any]:
    head = {"method": "dann", "seed": 0, "steps": 3000, "train_seconds": 75.0}
    head["peak_memory"] = {"host": 3 * 2**29}
    return {**head, "examples_per_second": 5000.0, **{k: split(v) for k, v in splits.items()}}


def figure() -> Figure:
    drawing = Figure(figsize=(4, 3))
    drawing.subplots().plot([1, 2])
    return drawing


def report(path: Path, **changes: Any) -> str:
    given = {
        "title": "emoji_dann",
        "summary": summary(source_test=0.8, target_test=0.612),
        "config": {"seed": 0, "data": {"source": "embedded:emoji/google"}},
        "manifest": {"started": "2026-01-02T10:00:00+00:00", "packages": {"jax": "0.10.2"}},
        "figures": [("Learning curves", "How it went.", figure())],
    }
    write_report(path / "report.html", **{**given, **changes})
    return (path / "report.html").read_text("utf-8")


class Page(HTMLParser):
    """What a browser would make of a page: tags with attributes, and the text between."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_the_page_says_what_came_out(tmp_path: Path) -> None:
    text = Page(report(tmp_path, notes=["One seed only."])).text.replace("\xa0", " ")
    for expected in (
        "emoji_dann",
        "Target accuracy 61.2 % (95 % interval 58.2 to 64.2)",
        "5,000 examples a second; at most 1.5 GiB of memory",
        "Calibration error",
        "One seed only.",
        "data.source",
        "embedded:emoji/google",
        "packages.jax",
        "Learning curves",
        "How it went.",
    ):
        assert expected in text, expected


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    html = report(tmp_path)
    page = Page(html)
    assert not page.open
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed"}
    for _, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(key) or "data:").startswith("data:")
    assert "url(" not in html and "@import" not in html
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_pictures_are_inside(tmp_path: Path) -> None:
    images = [a for tag, a in Page(report(tmp_path)).tags if tag == "img"]
    assert len(images) == 1 and images[0]["alt"] == "Learning curves"
    data = (images[0]["src"] or "").removeprefix("data:image/png;base64,")
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")


def test_everything_is_escaped(tmp_path: Path) -> None:
    html = report(
        tmp_path,
        title=HOSTILE,
        subtitle=HOSTILE,
        summary={**summary(target_test=0.5), "method": HOSTILE},
        config={HOSTILE: {HOSTILE: HOSTILE}},
        manifest={"started": HOSTILE, HOSTILE: HOSTILE},
        figures=[(HOSTILE, HOSTILE, figure())],
        notes=[HOSTILE],
        remark=HOSTILE,
    )
    page = Page(html)
    assert "<script" not in html and not page.open
    assert page.text.count(HOSTILE) >= 12
    assert next(a["alt"] for tag, a in page.tags if tag == "img") == HOSTILE


def test_a_study_is_escaped_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "study.html"
    write_study_report(
        path,
        title=HOSTILE,
        question=HOSTILE,
        answer=HOSTILE,
        protocol=[HOSTILE],
        columns=[HOSTILE, "b"],
        rows=[[HOSTILE, "61.0 ± 1.4"]],
        figures=[(HOSTILE, HOSTILE, figure())],
        notes=[HOSTILE],
    )
    page = Page(path.read_text("utf-8"))
    assert "script" not in {tag for tag, _ in page.tags} and not page.open
    assert page.text.count(HOSTILE) == 10
    assert "61.0\u00a0±\u00a01.4" in page.text, "on one line"


def test_a_page_is_small(tmp_path: Path) -> None:
    assert len(report(tmp_path)) < 100_000


def test_a_failed_report_leaves_the_old_one(tmp_path: Path) -> None:
    old = report(tmp_path)
    with pytest.raises(AttributeError):
        report(tmp_path, figures=[("a", "b", None)])
    assert (tmp_path / "report.html").read_text("utf-8") == old
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_verdict_ends_with_what_the_run_can_be_compared_with(tmp_path: Path) -> None:
    html = report(tmp_path, remark="Nothing was adapted.")
    said = re.search('<p class="verdict">(.*?)</p>', html)
    assert said is not None
    assert said[1].replace("&nbsp;", " ") == (
        "Target accuracy 61.2 % (95 % interval 58.2 to 64.2). On held-out source examples it is "
        "80.0 %. Nothing was adapted."
    )


def test_a_run_without_target_is_judged_on_its_source(tmp_path: Path) -> None:
    alone = summary(source_test=0.8)
    assert verdict(alone) == "Source accuracy 80.0 % (95 % interval 77.0 to 83.0)."
    assert "Target accuracy" not in Page(report(tmp_path, summary=alone)).text


def test_empty_groups_of_a_config_are_shown() -> None:
    assert flatten({"a": {}, "b": {"c": [1]}}) == [("a", "{}"), ("b.c", "[1]")]
