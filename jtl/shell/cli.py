"""The command line: a config trained, a study run, backbones ranked, what was trained used.

jtl CONFIG.py[:argument] [--config.key=value ...] [--workdir DIR] [--debug_nans]
    trains as the config file says, by default in runs/CONFIG; with --debug_nans, slowly, a NaN
    stops it with the line of code that made it
jtl experiments/NAME.py[:argument] [--workdir DIR] [--workers N|K/N|ray[:N]] [--debug_nans]
    makes every run of a study, and its table: by N processes on this machine, as the Kth of N on
    many that share the folder, or as tasks of a Ray cluster
jtl study DIR
    shows what of the study in a folder is finished, running and failed, while others work on it
jtl rank DATA BACKBONE BACKBONE ... [--config.key=value ...] [--workdir DIR]
    scores backbones on labelled data, and compares with the accuracy that probes reach
jtl probe DATA BACKBONE ... [--config.data.target=...] [--workdir DIR]
    fits probes on what backbones, or their layers, make of labelled data, chosen by folds
jtl predict WORKDIR INPUT ... [-o FILE.csv|FILE.jsonl]
    says what the model of a finished run takes files, or all files in folders, for; - reads lines
jtl features BACKBONE INPUT ... -o FILE.npz|FILE.csv [--config.model.pooling=...]
    writes what a backbone makes of them
jtl export WORKDIR -o DIR
    writes the model of a finished run for others: StableHLO, safetensors, a model card
jtl convert WEIGHTS.pth FILE.safetensors [--architecture NAME]
    writes PyTorch's weights as safetensors
jtl cache ls|rm [NAME ...] [--all]
    lists what frozen blocks gave and later runs find, or removes it
jtl test [pytest option ...]
    runs the tests of a source checkout
jtl --help | --version

The same command in the same folder resumes a run that was stopped, and prints the summary of one
that is finished. A mistake in the command or the config is one line, with exit code 2.
"""

import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import jtl
from jtl.devices import cluster
from jtl.errors import UserError, is_out_of_memory
from jtl.records import atomic
from jtl.shell import commands
from jtl.shell.arguments import PROBE, RANK, Command, Workers, check_command, parse


def console() -> None:
    """The entry point of the installed ``jtl`` command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for what it detaches
            signal.signal(number, _stop)
    sys.exit(main(sys.argv[1:]))


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Leaves at once: training handles signals itself, and all else can be done again.

    An exception instead could be caught on its way, by a library that is being imported, say.
    """
    del frame
    atomic.discard_unfinished()
    if cluster.is_main():
        os.write(2, b"jtl: interrupted; give the same command again\n")
    os._exit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Runs one command and returns its exit code; 2 is a mistake of the user."""
    try:
        return _run(list(argv))
    except UserError as error:
        if cluster.is_main():  # the other processes of a job say the same
            print("jtl: error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except Exception as error:
        if is_out_of_memory(error):
            said = " ".join(str(error).split())[:200]
            print(
                f"jtl: error: out of memory ({said}); lower batch_size or model.image_size",
                file=sys.stderr,
            )
            return _leave(2)
        if cluster.place().size == 1:
            raise
        if cluster.is_loss(error):
            said = " ".join(str(error).split())[:200]
            print(
                f"jtl: error: another process of this job has ended ({said}); start the job again: "
                "it goes on from its last checkpoint",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        return _leave(1)


def _leave(code: int) -> int:
    """Ends a process of a job with the code; returns it to a process that is alone.

    At a usual end jax waits five minutes for the other processes, and they wait for what this one
    no longer does. Once it is gone, they end too.
    """
    if cluster.place().size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(argv: list[str]) -> int:
    if argv[:1] == ["test"]:
        return _test(argv[1:])
    if not argv or {"-h", "--help"} & set(argv):
        print((__doc__ or "").strip(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if "--version" in argv:
        print(f"jtl {jtl.__version__}")
        return 0
    if argv[0] in commands.COMMANDS:
        return commands.work(argv)()
    return _train_or_study(parse(argv))


def _train_or_study(command: Command) -> int:
    if cluster.place().size == 1:
        return _work(command)()
    # What only one process of a job finds wrong must end the others too, so they meet first.
    from jtl.devices import runtime

    runtime.start()
    with runtime.together():
        work = _work(command)
    return work()


def _work(command: Command) -> Callable[[], int]:
    """Reads and checks all that the command names; returns what is to be done."""
    work = {RANK: _ranking, PROBE: _probing}.get(command.spec, _from_file)(command)
    if command.debug_nans:
        import jax

        jax.config.update("jax_debug_nans", True)
    return work


def _from_file(command: Command) -> Callable[[], int]:
    from jtl import configuration

    check_command(command.spec)
    file, argument = configuration.split_spec(command.spec)
    functions = configuration.read_file(file)
    workdir = command.workdir or Path("runs") / configuration.run_name(file, argument)
    if "study" in functions:
        if command.settings:
            raise UserError(
                f"{file} is a study: it takes no --config.*, its file says what it runs"
            )
        _check_workdir(workdir)
        return _study(configuration.call(file, functions["study"], argument), workdir, command)
    if command.workers:
        raise UserError(f"{file} is one run: --workers is for studies")
    config, _ = configuration.load(command.spec, command.settings)
    _check_workdir(workdir)
    if command.debug_nans and config.parallel == "pmap":
        raise UserError("--debug_nans does not see into pmap; add --config.parallel=jit")
    # Imported here, as it starts JAX: every mistake above is reported without waiting for it.
    from jtl.runs import train

    return partial(train.run, config, workdir)


def _ranking(command: Command) -> Callable[[], int]:
    from jtl.probes import compared

    data, *backbones = command.named or ("",)
    configs = compared.trained(data, backbones, command.settings)
    workdir = command.workdir or Path("runs") / f"rank-{compared.folder_name(data)}"
    _check_workdir(workdir)
    from jtl.studies import ranking  # starts JAX

    return _study(ranking.study(configs), workdir, command)


def _probing(command: Command) -> Callable[[], int]:
    from jtl.probes import compared

    data, *backbones = command.named or ("",)
    if command.workers:
        raise UserError("probe fits all in one process: --workers is for studies")
    configs = compared.fitted(data, backbones, command.settings)
    workdir = command.workdir or Path("runs") / f"probe-{compared.folder_name(data)}"
    _check_workdir(workdir)
    from jtl.probes import probed  # starts JAX

    return partial(probed.run, configs, workdir)


def _study(study: Any, workdir: Path, command: Command) -> Callable[[], int]:
    from jtl.studies import workers  # starts JAX

    # A NaN that is looked for is shown by the process that the user sees.
    wanted = command.workers or Workers(total=1 if command.debug_nans else 0)
    return partial(workers.run, study, workdir, command.again(workdir), **wanted._asdict())


def _check_workdir(workdir: Path) -> None:
    """A folder, or a place where one can be made."""
    place = workdir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"--workdir {workdir}: {place} is a file, not a folder")
    if not os.access(place, os.W_OK):
        raise UserError(f"--workdir {workdir}: {place} cannot be written to")


def _test(arguments: Sequence[str]) -> int:
    """Runs pytest in its own process, from the root of the checkout; all tests on all cores."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise UserError("the tests are not installed; run ./launch.sh test in a source checkout")
    if importlib.util.find_spec("pytest") is None:
        raise UserError("pytest is not installed; run ./launch.sh test, or pip install 'jtl[dev]'")
    os.chdir(root)
    # One more than there are cores, as some tests wait; by file, as its tests share programs; in
    # the order of collection, which begins with what takes longest.
    workers = str((os.cpu_count() or 1) + 1)
    arguments = arguments or ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
    # Replaces this process, so that signals and the exit code are pytest's own.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
