"""docs/launchers: what each script starts, with stand-ins for the launchers; by hand, for real."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jtl.devices import cluster

SCRIPTS = ("by_hand", "mpirun", "srun", "tpu_pod")
WORDS = ["configs/a b.py:x", "--config.partition=(('.*', 'train'),)", "--workdir", "runs/a"]

NOTES = """#!/bin/bash
printf '%s\\n' "$@" "JTL_COORDINATOR=$JTL_COORDINATOR" >>"$NOTED"
exit "${CODE-0}"
"""
SSH = """#!/bin/bash
[[ $1 == -tt && $2 == here && $# == 3 ]] || exit 99
exec bash -c "$3"
"""
MEETS = """#!/bin/bash
printf '%s\\n' "$@" >>"$NOTED.$JTL_PROCESS"
exec {python} -c '
import sys
from jtl.devices import runtime
runtime.PATIENCE = 60
runtime.start()
import jax
assert jax.process_count() == 2 and runtime.largest(float(jax.process_index())) == (1.0,)
sys.exit(5 * jax.process_index())
'
"""


class Place:
    """A folder to call a script from, with stand-ins on the path."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self._root = folder, root
        self.noted = folder / "noted"

    def tool(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def run(self, script: str, **environment: str) -> int:
        environment |= {
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "NOTED": str(self.noted),
            "PYTHONPATH": str(self._root),
        }
        command = [self._root / "docs" / "launchers" / f"{script}.sh", *WORDS]
        return subprocess.run(command, env=environment, cwd=self.folder, timeout=100).returncode

    def lines(self) -> list[str]:
        return self.noted.read_text().splitlines()


@pytest.fixture
def place(tmp_path: Path, root: Path) -> Place:
    return Place(tmp_path, root)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_parses_and_can_be_called(root: Path, script: str) -> None:
    file = root / "docs" / "launchers" / f"{script}.sh"
    assert os.access(file, os.X_OK)
    assert subprocess.run(["bash", "-n", file], timeout=10).returncode == 0


def test_processes_that_are_started_by_hand_meet(place: Place) -> None:
    """Over a stand-in for ssh that stays here; one fails, and its code is that of the script."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    place.tool("ssh", SSH.replace("here", "127.0.0.1"))
    place.tool("launch.sh", MEETS.format(python=sys.executable))
    hosts = "127.0.0.1 127.0.0.1"
    assert place.run("by_hand", HOSTS=hosts, PORT=port, JAX_PLATFORMS="cpu") == 5
    for rank in "01":
        assert Path(f"{place.noted}.{rank}").read_text().splitlines() == WORDS


@pytest.mark.parametrize(
    ("version", "started"),
    [
        ("Open MPI", ["-np", "4", "--host", "n1:2,n2:2", "-x", "JTL_COORDINATOR"]),
        ("HYDRA", ["-np", "4", "-hosts", "n1:2,n2:2"]),
    ],
)
def test_mpirun_starts_one_process_in_each_slot(
    place: Place, version: str, started: list[str]
) -> None:
    said = f'#!/bin/bash\n[[ $1 == --version ]] && echo "{version} 5.0" && exit\n'
    place.tool("mpirun", said + NOTES)
    assert place.run("mpirun", HOSTS="n1 n2", SLOTS="2") == 0
    told = ["./launch.sh", *WORDS, "JTL_COORDINATOR=n1:7733"]
    assert place.lines() == started + told


@pytest.mark.parametrize(("code", "again"), [("0", []), ("2", []), ("143", ["requeue", "17"])])
def test_slurm_queues_again_what_its_time_limit_stopped(
    place: Place, code: str, again: list[str]
) -> None:
    for name in ("srun", "scontrol"):
        place.tool(name, NOTES)
    told = {"SLURM_SUBMIT_DIR": "/shared/jtl", "SLURM_JOB_ID": "17", "CODE": code}
    assert place.run("srun", **told) == int(code)
    words = [line for line in place.lines() if not line.startswith("JTL_COORDINATOR=")]
    assert words == ["/shared/jtl/launch.sh", *WORDS, *again]


def test_every_machine_of_a_slice_of_tpus_runs_the_command(place: Place) -> None:
    place.tool("gcloud", NOTES)
    assert place.run("tpu_pod", TPU="mine", ZONE="here") == 0
    *words, command, _ = place.lines()
    assert " ".join(words) == "compute tpus tpu-vm ssh mine --zone=here --worker=all"
    place.tool("launch.sh", NOTES)
    place.noted.unlink()
    (place.folder / "jtl").symlink_to(place.folder)
    environment = {"NOTED": str(place.noted), "PATH": "/usr/bin:/bin"}
    there = command.removeprefix("--command=")
    subprocess.run(["bash", "-c", there], env=environment, cwd=place.folder, check=True, timeout=10)
    assert place.lines() == [*WORDS, "JTL_COORDINATOR="]


@pytest.mark.parametrize("script", ["by_hand", "mpirun", "tpu_pod"])
def test_a_script_that_is_told_no_machines_says_so(place: Place, script: str, capfd) -> None:
    assert place.run(script) != 0
    assert ": names the" in capfd.readouterr().err


def test_the_pods_of_kubernetes_know_each_other(root: Path) -> None:
    text = (root / "docs" / "launchers" / "kubernetes.yaml").read_text()
    service, job = yaml.safe_load_all(text)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    name = service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and pod["subdomain"] == name
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    (container,) = pod["containers"]
    told = {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
    assert set(told) == set(cluster.BY_HAND)
    host, _, port = told[cluster.COORDINATOR].partition(":")
    assert host == f"{job['metadata']['name']}-0.{name}" and port.isdecimal()
    assert int(told[cluster.PROCESSES]) == spec["completions"] == spec["parallelism"]
    assert spec["completionMode"] == "Indexed"
    assert "job-completion-index" in told[cluster.PROCESS]["fieldRef"]["fieldPath"]
    (mounted,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mounted["name"] == volume["name"]
    assert container["workingDir"].startswith(mounted["mountPath"])
