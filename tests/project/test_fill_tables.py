"""The tool that copies the numbers of finished runs into the documents."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jtl import configuration
from jtl.probes import compared

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool() -> dict[str, Any]:
    return dict(configuration.read_file(ROOT / "tools" / "fill_tables.py"))


def write_runs(folder: Path) -> None:
    (folder / "runs" / "s").mkdir(parents=True)
    (folder / "runs" / "s" / "table.md").write_text(
        "| target accuracy, % | A to B | gain |\n|---|---|---|\n"
        "| source-only | 50.0 ± 1.0 |  |\n| dann | 55.0 ± 7.1 | +5.0 |\n"
    )
    score = '{"target_test": {"accuracy": {"value": 0.613, "low": 0.5711, "high": 0.65}}}'
    (folder / "runs" / "s" / "summary.json").write_text(score)


def test_places_are_filled_from_runs_and_filling_twice_changes_nothing(
    tmp_path: Path, tool: dict[str, Any]
) -> None:
    write_runs(tmp_path)
    before = (
        "<!-- table: runs/s/table.md -->\nold\n<!-- end -->\n"
        "| x | <!-- value: runs/s/table.md; dann; A to B -->old<!-- end --> |\n"
        "| y | <!-- value: runs/s/summary.json; target_test; accuracy --><!-- end --> |\n"
        "| z | <!-- value: runs/t/summary.json; target_test; accuracy -->kept<!-- end --> |\n"
    )
    once, missing = tool["fill"](before, tmp_path)
    assert missing == ["runs/t/summary.json"] and "old" not in once
    assert "-->\n| target accuracy, % | A to B | gain |\n|---|---|---|\n" in once
    assert "|\n| dann | 55.0 ± 7.1 | +5.0 |\n<!--" in once
    assert "-->55.0 ± 7.1<!--" in once and "-->61.3 (57.1 to 65.0)<!--" in once
    assert "-->kept<!--" in once
    assert tool["fill"](once, tmp_path) == (once, missing)


CONFIG = """\"\"\"One.

Target accuracy of the first command: not run yet.
\"\"\"

from jtl.defaults import defaults


def get_config():
    config = defaults()
    config.data.source = "embedded:mnist"
    config.model.backbone = "random:digits-convnet"
    return config
"""


def write_run_of_a_config(root: Path, *, dirty: bool = False) -> Path:
    write_runs(root)
    file, folder = root / "s.py", root / "runs" / "s"
    file.write_text(CONFIG)
    made, _ = configuration.load(str(file), ())
    (folder / "config.json").write_text(made.to_json())
    git = {"commit": "0", "dirty": dirty}
    (folder / "manifest.json").write_text(json.dumps({"device": "1 x cpu", "git": git}))
    return file


def test_the_docstring_of_a_config_is_filled_from_its_run(
    tmp_path: Path, tool: dict[str, Any]
) -> None:
    file = write_run_of_a_config(tmp_path)
    said = "61.3 % (95 % interval 57.1 to 65.0), one run on one cpu."
    filled = CONFIG.replace("not run yet.", said)
    assert tool["fill_config"](file, tmp_path) == (filled, [])
    file.write_text(filled)
    assert tool["fill_config"](file, tmp_path) == (filled, [])


def test_a_run_that_says_nothing_of_its_config_fills_nothing(
    tmp_path: Path, tool: dict[str, Any]
) -> None:
    file = write_run_of_a_config(tmp_path / "a", dirty=True)
    reason = "runs/s was made from a checkout with changes"
    assert tool["fill_config"](file, tmp_path / "a") == (CONFIG, [reason])
    file = write_run_of_a_config(tmp_path / "b")
    file.write_text(changed := CONFIG.replace("    return", "    config.steps = 7\n    return"))
    reason = "runs/s was made with another config"
    assert tool["fill_config"](file, tmp_path / "b") == (changed, [reason])
    (tmp_path / "b/runs/s/summary.json").unlink()
    reason = "runs/s is not there, or not finished"
    assert tool["fill_config"](file, tmp_path / "b") == (changed, [reason])


def test_a_row_that_a_table_lacks_is_an_error(tmp_path: Path, tool: dict[str, Any]) -> None:
    write_runs(tmp_path)
    with pytest.raises(KeyError, match="mcd"):
        tool["fill"]("<!-- value: runs/s/table.md; mcd; A to B --><!-- end -->", tmp_path)


def test_every_marker_of_the_readme_names_what_a_config_or_study_writes(
    tool: dict[str, Any],
) -> None:
    names = {
        path.stem for folder in ("configs", "experiments") for path in (ROOT / folder).iterdir()
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ranked = re.findall(r"launch\.sh rank (\S+)", readme)
    names |= {f"rank-{compared.folder_name(data)}" for data in ranked}
    places = [match[2].split("; ") for match in tool["PLACE"].findall(readme)]
    assert places
    for name, *_ in places:
        runs, run, file = name.split("/")
        assert runs == "runs" and run in names and file in ("table.md", "summary.json")


def test_the_tool_is_a_program(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: runs/none/table.md -->\nnot run\n<!-- end -->\n")
    command = [sys.executable, str(ROOT / "tools" / "fill_tables.py"), str(page)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "runs/none/table.md is not there" in result.stderr
    assert "not run" in page.read_text()
