"""Processes that a user starts: what they are told, and what they say where it cannot be."""

import socket
import subprocess
import sys

import jax
import pytest
from test_runtime import alone, joined, started_by

from jtl.devices import cluster, runtime
from jtl.errors import UserError
from jtl.shell import cli

__all__ = ["alone", "joined"]

GIVES_UP = "from jtl.devices import runtime; runtime.PATIENCE = 1; runtime.start()"


def told(monkeypatch: pytest.MonkeyPatch, *values: str | None) -> None:
    for name, value in zip(cluster.BY_HAND, values, strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)


def test_three_variables_start_a_process_of_a_job(alone, joined):
    told(alone, "node1:1234", "2", "1")
    assert cluster.place() == cluster.Place(2, 1, coordinator="node1:1234")
    assert not runtime.is_main_process()
    runtime.start()
    assert joined == [
        {
            "coordinator_address": "node1:1234",
            "num_processes": 2,
            "process_id": 1,
            "local_device_ids": None,
            "cluster_detection_method": "deactivate",
        }
    ]


def test_a_job_of_one_process_meets_nobody(alone, joined):
    told(alone, "node1:1234", "1", "0")
    runtime.start()
    assert joined == [] and runtime.is_main_process()


def test_what_the_user_says_comes_before_what_a_launcher_says(alone):
    started_by("srun", 1, alone)
    told(alone, "node1:1234", "3", "2")
    assert cluster.place() == cluster.Place(3, 2, coordinator="node1:1234")


def test_a_place_to_meet_is_all_that_a_launcher_needs(alone):
    started_by("srun", 1, alone)
    told(alone, "node1:1234", None, None)
    assert cluster.place() == cluster.Place(2, 1, local=1, coordinator="node1:1234")


WRONG = {
    "JTL_PROCESS not set beside JTL_COORDINATOR and JTL_PROCESSES": ("a:1", "2", None),
    "JTL_COORDINATOR not set beside JTL_PROCESSES and JTL_PROCESS": (None, "2", "1"),
    "JTL_PROCESSES and JTL_PROCESS not set beside JTL_COORDINATOR": ("a:1", None, None),
    "JTL_PROCESSES not set beside": ("a:1", "", "1"),
    "JTL_PROCESSES is 'two'; it is how many processes there are, from 1": ("a:1", "two", "1"),
    "JTL_PROCESSES is 0; it is how many processes there are, from 1": ("a:1", "0", "0"),
    "JTL_PROCESS is '-1'; it is which process this is, from 0": ("a:1", "2", "-1"),
    "JTL_PROCESS is 2; with JTL_PROCESSES=2 it is from 0 to 1": ("a:1", "2", "2"),
    "JTL_COORDINATOR is 'node1'; write HOST:PORT": ("node1", "2", "1"),
    "JTL_COORDINATOR is 'node1:70000'; write HOST:PORT": ("node1:70000", "2", "1"),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_is_one_line(alone, joined, capsys, said):
    told(alone, *WRONG[said])
    assert cli.main(["configs/emoji_probe.py"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"jtl: error: {said}") and err.count("\n") == 1
    assert not out and joined == []


def test_a_process_that_nobody_meets_gives_up_in_one_line(alone):
    """And not as jax does, which aborts with pages of C++ after five minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told(alone, f"127.0.0.1:{port}", "2", "1")
    ended = subprocess.run(
        [sys.executable, "-c", GIVES_UP], capture_output=True, text=True, timeout=60
    )
    (line,) = ended.stderr.splitlines()
    assert line == (
        f"jtl: error: process 1 of 2: JTL_COORDINATOR=127.0.0.1:{port}: process 0 cannot be "
        "reached there (Connection refused) (waited 1 seconds)"
    )
    assert (ended.returncode, ended.stdout) == (2, "")


def test_why_nobody_was_met_is_said_as_far_as_it_can_be_seen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert runtime._missed(address).endswith("not all processes came")
    assert "no machine of this name is known" in runtime._missed("none.invalid:1234")
    assert "JTL_COORDINATOR=HOST:PORT says where" in runtime._missed(None)


def test_a_port_that_is_taken_is_one_line(alone, monkeypatch):
    def taken(**told: int) -> None:
        raise jax.errors.JaxRuntimeError("UNKNOWN: Failed to start RPC server")

    monkeypatch.setattr(jax.distributed, "initialize", taken)
    told(alone, "node1:1234", "2", "0")
    with pytest.raises(UserError, match="node1:1234: process 0 cannot listen on this port"):
        runtime.start()
