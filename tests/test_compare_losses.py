"""The tool that compares the losses with other implementations, and the page it fills."""

import sys

import pytest
from test_readme import ROOT

sys.path.append(str(ROOT / "tools"))

import compare_losses


def test_the_page_shows_what_the_tool_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = compare_losses.PAGE.read_text(encoding="utf-8")
    assert compare_losses.fill(page) == page, "run tools/compare_losses.py --write"
    assert {place[1] for place in compare_losses.PLACE.findall(page)} == set(compare_losses.TABLES)
    compare_losses.main([])
    printed = capsys.readouterr().out
    assert all(
        content.strip() in printed for _, _, content, _ in compare_losses.PLACE.findall(page)
    )


def test_a_marker_without_a_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        compare_losses.fill("<!-- compare: unknown -->\n<!-- end -->")
