"""What a process sets before it computes."""

import subprocess
import sys

import pytest

from jtl import runtime

FAULTS = """
import resource
import numpy as np
from jtl import runtime

if {tuned}:
    runtime.keep_freed_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**23)  # 64 MB, beyond what glibc keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_without_asking_the_system():
    def faults(tuned: bool) -> int:
        program = [sys.executable, "-c", FAULTS.format(tuned=tuned)]
        return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)

    assert faults(tuned=True) < faults(tuned=False) / 10


def test_a_process_alone_is_the_main_one(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert runtime.is_main_process()
    assert runtime.agree_on_signal(15) == 15


@pytest.mark.parametrize(
    ("size", "rank"),
    [
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ],
)
def test_one_process_of_a_job_is_the_main_one(monkeypatch, size, rank):
    monkeypatch.setenv(size, "2")
    monkeypatch.setenv(rank, "0")
    assert runtime.is_main_process()
    monkeypatch.setenv(rank, "1")
    assert not runtime.is_main_process()


def test_an_allocation_without_steps_is_no_job(monkeypatch):
    """In a batch script that does not call srun there are tasks to come, but one process."""
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert runtime.is_main_process()
