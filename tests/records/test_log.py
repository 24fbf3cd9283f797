import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jtl.errors import UserError
from jtl.records import log
from jtl.records.log import MetricsLog, Progress, final_table, read_metrics


def record(step: int, split: str = "train", **values: float) -> dict:
    return {"step": step, "split": split, "values": values}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsLog(path)
    writer.write(1, "train", {"loss": np.float32(0.5), "task": jnp.asarray(2)})
    writer.write(2, "target_test", {"accuracy": 0.25})
    writer.close()
    assert read_metrics(path) == [
        record(1, loss=0.5, task=2.0),
        record(2, "target_test", accuracy=0.25),
    ]


def test_a_record_is_on_disk_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsLog(path)
    writer.write(1, "train", {"loss": 1.0})
    assert read_metrics(path) == [record(1, loss=1.0)]
    writer.close()


def test_lines_are_strict_json_whatever_the_values(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsLog(path)
    writer.write(1, "train", {"a": math.nan, "b": math.inf, "c": -math.inf})
    writer.close()
    written = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written["values"] == {"a": "nan", "b": "inf", "c": "-inf"}
    values = read_metrics(path)[0]["values"]
    assert math.isnan(values["a"]) and values["b"] == math.inf and values["c"] == -math.inf


def test_a_line_cut_short_at_any_byte_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsLog(path)
    writer.write(1, "träin", {"loss": 1.0})
    whole = path.read_bytes()
    writer.write(2, "träin", {"loss": 2.0})
    writer.close()
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        assert read_metrics(path) == [record(1, "träin", loss=1.0)]
        again = MetricsLog(path)
        again.write(2, "träin", {"loss": 3.0})
        again.close()
        assert [r["values"]["loss"] for r in read_metrics(path)] == [1.0, 3.0]


def test_a_file_that_ends_in_zeros_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(record(1, loss=1.0)).encode() + b"\n\0\0\0\n")
    assert read_metrics(path) == [record(1, loss=1.0)]


def test_a_killed_writer_loses_no_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    program = f"""
        from jtl.records.log import MetricsLog
        log = MetricsLog({str(path)!r})
        for step in range(10**9):
            log.write(step, "train", {{"loss": step}})
            print(step, flush=True)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(500)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    steps = [r["step"] for r in read_metrics(path)]
    assert steps == list(range(len(steps))) and len(steps) > said


def test_a_resumed_run_holds_no_step_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path)
    for step in range(1, 8):
        first.write(step, "train", {"loss": step})
    first.close()
    path.write_bytes(path.read_bytes()[:-5])
    second = MetricsLog(path)
    assert second.truncate_after(4) == 2
    for step in range(5, 8):
        second.write(step, "train", {"loss": 10 * step})
    second.close()
    assert [r["values"]["loss"] for r in read_metrics(path)] == [1, 2, 3, 4, 50, 60, 70]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + json.dumps(record(2)) + "\n")
    with pytest.raises(UserError, match="line 1"):
        read_metrics(path)
    with pytest.raises(UserError, match="does not exist"):
        read_metrics(tmp_path / "absent")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def draws(self) -> list[str]:
        return self.getvalue().split("\r")[1:]


def run(stream: io.StringIO, steps: int, seconds: float, **options: int) -> None:
    clock = Clock()
    progress = Progress(steps, stream=stream, clock=clock, **options)
    for step in range(1, steps + 1):
        clock.now += seconds / steps
        progress.update(step, {"task": 0.41234, "domain": 0.693})
    progress.close()


def test_the_live_line_is_drawn_at_most_ten_times_a_second() -> None:
    terminal = Terminal()
    run(terminal, steps=1000, seconds=5)
    assert 40 <= len(terminal.draws()) <= 53
    assert terminal.getvalue().count("\n") == 1


def test_the_live_line_tells_step_rate_time_left_and_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    run(terminal, steps=1000, seconds=100, examples=64)
    middle = next(line for line in terminal.draws() if "step 400/" in line)
    assert middle.rstrip() == (
        "step 400/1,000   40%  1:00 left  10 steps/s  640 examples/s  task 0.412  domain 0.693"
    )


@pytest.mark.parametrize("columns", [1, 5, 12, 20, 40, 79, 200])
def test_the_live_line_never_wraps(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    run(terminal, steps=100, seconds=50, examples=64)
    assert all(len(line.rstrip("\n")) < max(columns, 2) for line in terminal.draws())


def test_a_shorter_line_covers_a_longer_one() -> None:
    terminal, clock = Terminal(), Clock()
    progress = Progress(10, stream=terminal, clock=clock)
    progress.update(1, {"a_name_longer_than_a_rate_and_a_time": 1.0})
    clock.now += 1
    progress.update(10, {})
    assert len(terminal.draws()) == 2
    assert "time" in terminal.draws()[0] and "time" not in screen(terminal.getvalue())[0]


def test_a_message_stands_above_the_live_line() -> None:
    terminal, clock = Terminal(), Clock()
    progress = Progress(10, stream=terminal, clock=clock)
    progress.update(1, {})
    progress.message("saved")
    shown = screen(terminal.getvalue())
    assert shown[0] == "saved" and shown[1].startswith("step 1/10")


def screen(text: str) -> list[str]:
    """What a terminal would show."""
    lines = []
    for row in text.split("\n"):
        cells: list[str] = []
        for part in row.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


def test_the_rate_leaves_compilation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal, clock = Terminal(), Clock()
    progress = Progress(100, stream=terminal, clock=clock)
    clock.now = 60.0
    progress.update(1, {})
    clock.now = 61.0
    progress.update(11, {})
    assert "10 steps/s" in terminal.draws()[-1] and "0:09 left" in terminal.draws()[-1]


def test_a_resumed_run_counts_its_own_steps_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal, clock = Terminal(), Clock()
    progress = Progress(100, start=50, stream=terminal, clock=clock)
    progress.update(51, {})
    clock.now = 1.0
    progress.update(61, {})
    assert "step 61/100" in terminal.draws()[-1] and "10 steps/s" in terminal.draws()[-1]


def test_losses_are_read_only_when_drawn() -> None:
    reads = []

    class Loss:
        def __float__(self) -> float:
            reads.append(1)
            return 1.0

    progress = Progress(10, stream=Terminal(), clock=Clock())
    for step in range(1, 10):
        progress.update(step, {"task": Loss()})
    assert len(reads) == 1


def test_elsewhere_a_line_is_printed_at_every_tenth() -> None:
    file = io.StringIO()
    run(file, steps=1000, seconds=100)
    lines = file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{k}00/1,000" for k in range(1, 10)] + [
        "1,000/1,000"
    ]
    assert "\r" not in file.getvalue()


def test_elsewhere_a_short_run_prints_few_lines() -> None:
    file = io.StringIO()
    run(file, steps=1000, seconds=5)
    assert len(file.getvalue().splitlines()) <= 3


def test_elsewhere_a_long_tenth_is_not_silent() -> None:
    file = io.StringIO()
    run(file, steps=1000, seconds=3000)
    assert 90 <= len(file.getvalue().splitlines()) <= 110


def test_an_interrupted_run_ends_with_its_last_step() -> None:
    file, clock = io.StringIO(), Clock()
    progress = Progress(100, stream=file, clock=clock)
    progress.update(7, {"task": 1.0})
    progress.close()
    assert file.getvalue().startswith("step 7/100")


def summary(**splits: float) -> dict:
    metrics = {
        split: {"accuracy": {"value": value, "low": value - 0.03, "high": value + 0.03}}
        for split, value in splits.items()
    }
    return {"steps": 3000, "train_seconds": 75.2, "examples_per_second": 5106.3, **metrics}


def test_the_final_table_tells_both_accuracies_the_time_and_the_report() -> None:
    table = final_table(summary(source_test=0.8, target_test=0.612), Path("runs/a/report.html"))
    assert table.splitlines() == [
        "target accuracy  61.2 % (95 % interval 58.2 to 64.2)",
        "source accuracy  80.0 % (95 % interval 77.0 to 83.0)",
        "training time    1:15 (3,000 steps, 5,106 examples/s, evaluation apart)",
        f"report           runs{os.sep}a{os.sep}report.html",
    ]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"host": 3 * 2**29}, "peak memory      1.5 GiB"),
        ({"host": 2**30, "device": 5 * 2**30}, "peak memory      1.0 GiB, 5.0 GiB on a device"),
    ],
)
def test_the_final_table_tells_the_memory_where_it_was_looked_at(held: dict, said: str) -> None:
    table = final_table(summary(source_test=0.8) | {"peak_memory": held}, "report.html")
    assert said in table.splitlines()


def test_the_final_table_of_a_run_without_target_has_no_target_line() -> None:
    assert "target" not in final_table(summary(source_test=0.8), "report.html")


def test_fit_keeps_the_first_parts() -> None:
    assert log.fit(["abc", "de", "f"], 7) == "abc  de"
    assert log.fit(["abc"], 2) == "ab" and log.fit(["abc"], 0) == ""
