"""The most memory that a process has held."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jtl.devices import memory


class Device:
    """Counts its memory, or does not."""

    def __init__(self, counts: dict[str, int] | None) -> None:
        self._counts = counts

    def memory_stats(self) -> dict[str, int] | None:
        return self._counts


STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says it in a file")
def test_it_is_what_the_system_says() -> None:
    held = np.ones(2**27, np.uint8)
    counted = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    expected = 1024 * int(counted["VmHWM"].split()[0])
    assert held.nbytes < expected
    assert memory.peak()["host"] == pytest.approx(expected, rel=0.02)


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says it in a file")
def test_a_system_without_that_file_has_all_of_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = dict(line.split(":", 1) for line in memory._MACHINE.read_text().splitlines())
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "none")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    expected = 1024 * int(counted["MemTotal"].split()[0])
    assert memory.of_host() == pytest.approx(expected, rel=0.02)


def test_of_devices_the_fullest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Device({"peak_bytes_in_use": count}) for count in (3, 7, 5)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert memory.peak()["device"] == 7


@pytest.mark.parametrize("counts", [None, {"bytes_in_use": 3}])
def test_a_device_that_counts_nothing_is_not_said_to_hold_any(
    counts: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(counts)])
    assert list(memory.peak()) == ["host"]
