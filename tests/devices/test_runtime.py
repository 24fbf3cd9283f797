"""What a process sets before it computes, and its place in a job."""

import os
import subprocess
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from jtl.devices import cluster, runtime
from jtl.errors import UserError

CORES = len(os.sched_getaffinity(0))

FAULTS = """
import resource
import jax
import jax.numpy as jnp
from jtl.devices import runtime

if {tuned}:
    runtime.keep_freed_memory()
factors = jnp.ones((5120, 64))
step = jax.jit(lambda x: x @ x.T @ x)  # 100 MB between its products
for _ in range(5):  # until there is a gap that a step fits into
    jax.block_until_ready(step(factors))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    jax.block_until_ready(step(factors))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_step_uses_freed_memory_again_without_asking_the_system():
    def faults(tuned: bool) -> int:
        program = [sys.executable, "-c", FAULTS.format(tuned=tuned)]
        return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)

    assert faults(tuned=True) < faults(tuned=False) / 10


LAUNCHERS = {
    "srun": {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "{}", "SLURM_LOCALID": "{}"},
    "Open MPI 4": {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "{}",
        "OMPI_COMM_WORLD_LOCAL_RANK": "{}",
        "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:34911",
    },
    "Open MPI 5": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "{}"},
    "MVAPICH2": {"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "{}"},
    "MPICH": {"PMI_SIZE": "2", "PMI_RANK": "{}", "MPI_LOCALRANKID": "{}"},
}
"""What each launcher tells a process."""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which no launcher started this process."""
    names = {name for told in LAUNCHERS.values() for name in told}
    for name in {*names, *cluster.BY_HAND, "JAX_LOCAL_DEVICE_IDS"}:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def joined(alone, monkeypatch) -> list[dict]:
    """The arguments with which jax was asked to join a job."""
    calls = []

    def initialize(*, initialization_timeout: int, heartbeat_timeout_seconds: int, **given) -> None:
        # jax must not give up before jtl has said why.
        assert initialization_timeout > runtime.PATIENCE and heartbeat_timeout_seconds == 30
        calls.append(given)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return calls


def started_by(launcher: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value.format(rank))


def test_a_process_alone_is_the_main_one(alone, joined):
    runtime.start()
    assert joined == []
    assert cluster.place() == cluster.Place()
    assert runtime.is_main_process()
    assert runtime.largest(15, 0.5) == (15, 0.5)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_process_of_a_job_is_the_main_one(alone, launcher):
    started_by(launcher, 0, alone)
    assert runtime.is_main_process() and cluster.place().size == 2
    started_by(launcher, 1, alone)
    assert not runtime.is_main_process()


def test_an_allocation_without_steps_is_no_job(alone):
    """In a batch script that does not call srun there are tasks to come, but one process."""
    alone.setenv("SLURM_NTASKS", "4")
    assert runtime.is_main_process()


@pytest.mark.parametrize(("launcher", "name"), [("srun", "slurm"), ("Open MPI 4", "ompi")])
def test_launchers_that_jax_knows_tell_it_where_to_meet(alone, joined, launcher, name):
    started_by(launcher, 1, alone)
    runtime.start()
    assert joined == [{"cluster_detection_method": name}]


@pytest.mark.parametrize("launcher", ["Open MPI 5", "MVAPICH2", "MPICH"])
def test_other_launchers_need_an_address_and_then_join(alone, joined, launcher):
    started_by(launcher, 1, alone)
    with pytest.raises(UserError, match="set JTL_COORDINATOR=HOST:PORT") as raised:
        runtime.start()
    assert "one of 2 processes" in str(raised.value) and joined == []
    alone.setenv(cluster.COORDINATOR, "node1:1234")
    runtime.start()
    (call,) = joined
    assert call["coordinator_address"] == "node1:1234"
    assert (call["num_processes"], call["process_id"]) == (2, 1)
    assert call["cluster_detection_method"] == "deactivate"
    assert call["local_device_ids"] == ([1] if launcher == "MPICH" else None)


def test_devices_that_the_user_chose_stay_chosen(alone, joined):
    started_by("MPICH", 1, alone)
    alone.setenv(cluster.COORDINATOR, "node1:1234")
    alone.setenv("JAX_LOCAL_DEVICE_IDS", "2,3")
    runtime.start()
    assert joined[0]["local_device_ids"] is None


def test_mpirun_within_an_allocation_counts_not_the_daemons_of_srun(alone):
    """On each machine srun starts one daemon of mpirun, whose processes inherit its place."""
    alone.setenv("SLURM_STEP_NUM_TASKS", "1")
    alone.setenv("SLURM_PROCID", "0")
    started_by("MPICH", 1, alone)
    assert cluster.place() == cluster.Place(2, 1, local=1)


def test_srun_that_repeats_its_place_for_mpi_is_still_srun(alone):
    started_by("srun", 1, alone)
    started_by("MPICH", 1, alone)
    assert cluster.place() == cluster.Place(2, 1, local=1, known_to_jax="slurm")


TPUS = {
    "one machine on Kubernetes": ({"TPU_WORKER_HOSTNAMES": "localhost"}, 0),
    "several on Kubernetes": ({"TPU_WORKER_HOSTNAMES": "a,b"}, 1),
    "several, as newer ones say it": ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, 1),
    "slices of one machine": ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, 1),
    "a machine that has to ask": ({}, 1),
    "a machine with nobody to ask": ({"TPU_SKIP_MDS_QUERY": "1"}, 0),
}


@pytest.fixture
def on_tpu(alone) -> Iterator[pytest.MonkeyPatch]:
    """What jax is where it finds a TPU; this process has its devices already."""
    for name in {name for told, _ in TPUS.values() for name in told}:
        alone.delenv(name, raising=False)
    before = jax.config.values["jax_platforms"]
    jax.config.update("jax_platforms", "tpu,cpu")
    alone.setattr(cluster, "_joined", None)
    yield alone
    jax.config.update("jax_platforms", before)


@pytest.mark.parametrize("case", TPUS)
def test_the_machines_of_a_tpu_join_each_other(case, on_tpu, joined):
    told, joins = TPUS[case]
    for name, value in told.items():
        on_tpu.setenv(name, value)
    on_tpu.setattr(jax, "process_count", lambda: 4)
    on_tpu.setattr(jax, "process_index", lambda: 3)
    assert runtime.is_main_process()
    runtime.start()
    assert joined == [{}] * joins
    # Nothing in the environment said it, and now it is known.
    assert cluster.place() == (cluster.Place(4, 3) if joins else cluster.Place())
    assert runtime.is_main_process() != bool(joins)


def test_the_user_may_start_the_machines_of_a_tpu_by_hand(on_tpu, joined):
    for name, value in zip(cluster.BY_HAND, ("a:1", "2", "1"), strict=True):
        on_tpu.setenv(name, value)
    runtime.start()
    (call,) = joined
    assert (call["coordinator_address"], call["process_id"]) == ("a:1", 1)


def test_a_tpu_whose_machines_cannot_be_found_is_one_line(on_tpu, monkeypatch):
    def unreachable(**told: int) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(jax.distributed, "initialize", unreachable)
    with pytest.raises(UserError, match=r"ConnectionError: no route.*set TPU_SKIP_MDS_QUERY=1"):
        runtime.start()


def test_a_hidden_copy_between_host_and_device_is_an_error():
    add = jax.jit(lambda x: x + 1)
    with runtime.only_written_transfers():
        add(jax.device_put(np.ones(3)))
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            add(np.ones(3))
    add(np.ones(3))
