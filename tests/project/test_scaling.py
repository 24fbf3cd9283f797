"""docs/scaling.md: its tables are those of the script, whose inputs and formulas hold."""

from pathlib import Path
from typing import Any

import pytest

from jtl import configuration


@pytest.fixture(scope="module")
def scaling() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    return dict(configuration.read_file(root / "benchmarks" / "scaling.py"))


def test_the_tables_of_the_page_are_those_of_the_script(scaling, root) -> None:
    page = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    for title, table in scaling["tables"]().items():
        assert table in page, title


def test_the_measured_steps_are_those_of_the_benchmarks(scaling, root) -> None:
    text = (root / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for job, network in (("ResNet-50", "resnet50"), ("ViT-S/16", "vit_small_patch16_224")):
        assert f"| {network}, training | jtl | {scaling['MEASURED'][job]} |" in text


def test_a_network_is_counted_as_the_script_says(scaling) -> None:
    name = "vit_small_patch16_224"
    assert scaling["counted"](name) == scaling["NETWORKS"][name]


def test_a_row_in_memory_takes_what_the_script_says(scaling) -> None:
    assert scaling["indexed"]() == pytest.approx(scaling["INDEXED"], rel=0.1)


def passed_around(size: float, members: int, bandwidth: float) -> float:
    """Seconds of a ring that sums: every member sends a chunk to the next, until all have all."""
    chunks = [[{member} for _ in range(members)] for member in range(members)]
    seconds = 0.0
    while not all(len(chunk) == members for held in chunks for chunk in held):
        turn = round(seconds * 1e9 * bandwidth * members / size)
        sent = [chunks[m][(m - turn) % members] for m in range(members)]
        for member in range(members):
            chunks[(member + 1) % members][(member - turn) % members] |= sent[member]
        seconds += size / members / (1e9 * bandwidth)
    return seconds


@pytest.mark.parametrize("members", [2, 3, 8])
def test_a_sum_takes_as_long_as_its_messages(scaling, members) -> None:
    cluster = scaling["Cluster"]("", members, 1.0, 10.0, 10.0, 0.0)
    expected = passed_around(1e6, members, 10.0)
    assert scaling["all_reduce"](1e6, members, cluster) == pytest.approx(expected)


def test_delays_are_those_of_the_shorter_way(scaling) -> None:
    cluster = scaling["Cluster"]("", 1, 1.0, 1.0, 1.0, 1.0)
    assert scaling["all_reduce"](0, 2, cluster) == 2
    assert scaling["all_reduce"](0, 1024, cluster) == 20


def test_one_device_waits_for_nobody(scaling) -> None:
    for job in scaling["jobs"]():
        for cluster in scaling["CLUSTERS"].values():
            if cluster.rate:
                assert scaling["efficiency"](job, 1, 64, cluster, overlap=False) == 1
