"""The tool that compares losses and scores with other implementations, and the pages it fills."""

import sys

import pytest
from test_readme import ROOT

sys.path.append(str(ROOT / "tools"))

import compare_losses


def test_the_pages_show_what_the_tool_prints(capsys: pytest.CaptureFixture[str]) -> None:
    compare_losses.main([])
    printed = capsys.readouterr().out
    places = [
        place
        for page in compare_losses.PAGES
        for place in compare_losses.PLACE.findall(page.read_text(encoding="utf-8"))
    ]
    assert {name for _, name, _, _ in places} == set(compare_losses.TABLES)
    for _, name, content, _ in places:
        assert content.strip() in printed, f"{name}: run tools/compare_losses.py --write"


def test_a_table_is_put_between_its_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_losses, "TABLES", {"new": lambda: "| new |"})
    page = "before\n<!-- compare: new -->\n| old |\n<!-- end -->\nafter"
    assert compare_losses.fill(page) == page.replace("old", "new")


def test_a_marker_without_a_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        compare_losses.fill("<!-- compare: unknown -->\n<!-- end -->")
