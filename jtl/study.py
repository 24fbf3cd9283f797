"""A study: one question, many runs, one table with spread and one report."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jtl import checks, chunk, configuration, evaluate, lanes, runtime, train, workdir
from jtl.errors import UserError
from jtl.manifest import write_json
from jtl.prepare import Shared, prepare
from jtl.report import Picture, Table, write_study_report

TABLE, RESULTS = "table.md", "results.json"

Key = tuple[str, ...]
"""What tells a run from the others: its method and task, say. The seed comes beside it."""
Results = Mapping[Key, Mapping[int, dict[str, Any]]]
"""The summaries of the runs, by key and seed, each with the "folder" of its run."""


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
      answer: in a sentence or two.
      columns, rows: of the table, as text.
      figures: heading, caption and figure of each picture.
      notes: what to read the table with, such as where transfer hurts.
      more: further tables, by the name of the file that holds each.
    """

    answer: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Iterable[Picture]
    notes: Sequence[str] = ()
    more: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """One question and the runs that answer it.

    Attributes:
      question: in a sentence.
      protocol: one choice a line: who sees which labels, what chose the hyper-parameters.
      config: ``config(*key, seed)`` of one run.
      keys: all runs but for their seeds.
      seeds: each key is run with every one of them.
      conclude: from the results to the findings.
      complete: whether ``conclude`` needs every run; if not, those that failed are left out.
      needs: runs that the others start from, by workdir; they are made first.
      initial: keys whose runs start from the model of another key's run of the same seed, and that
        key; those are made first, and their models kept.
    """

    question: str
    protocol: Sequence[str]
    config: Callable[..., ConfigDict]
    keys: Sequence[Key]
    seeds: Sequence[int]
    conclude: Callable[[Results], Findings]
    complete: bool = True
    needs: Mapping[str, ConfigDict] = field(default_factory=dict)
    initial: Mapping[Key, Key] = field(default_factory=dict)


class _Planned(NamedTuple):
    key: Key
    seed: int
    config: ConfigDict
    place: Path


def run(study: Study, folder: Path) -> int:
    """Makes every run that is not finished, then the table and the report.

    Runs that differ only in numbers are trained together (:mod:`jtl.lanes`).

    Returns:
      0, or the exit code of what was stopped; the same command goes on.

    Raises:
      UserError: it is no study, it was started as a job of several processes, or a run failed
        that its table needs.
    """
    if not isinstance(study, Study):
        raise UserError(f"study() returned {type(study).__name__}, not a Study")
    runtime.start()
    if jax.process_count() > 1:
        raise UserError(
            "a study runs in one process, on all devices of its machine; start it without srun or "
            "mpirun"
        )
    for place, config in study.needs.items():
        print(f"The runs start from {place}:", flush=True)
        code = train.run(_complete(config, place), Path(place))
        if code:
            return code
    plan = _plan(study, folder)
    started = set(study.initial.values())
    for first in (True, False):
        todo = [planned for planned in plan if (planned.key in started) is first]
        code = _make(todo, keep_models=first)
        if code:
            return code
    _write(study, folder, plan)
    return 0


def _plan(study: Study, folder: Path) -> list[_Planned]:
    """All runs, each with its config and its folder."""

    def place(key: Key, seed: int) -> Path:
        return folder / "runs" / "-".join((*key, f"seed{seed}"))

    plan = []
    for key in study.keys:
        for seed in study.seeds:
            where = place(key, seed)
            follows = key in study.initial
            config = _complete(study.config(*key, seed=seed), where.name, initial_follows=follows)
            if follows:
                with config.unlocked():
                    config.model.initial = str(place(study.initial[key], seed))
            plan.append(_Planned(key, seed, config, where))
    return plan


def _make(plan: Sequence[_Planned], *, keep_models: bool) -> int:
    """Makes the runs that are not finished, those of one program together."""
    groups: dict[str, list[_Planned]] = {}
    for planned in plan:
        with workdir.claim(planned.place, planned.config.to_dict()):
            if workdir.summary(planned.place) is None:
                groups.setdefault(lanes.program_of(planned.config), []).append(planned)
    done, shared = len(plan) - sum(map(len, groups.values())), Shared()
    for group in groups.values():
        print(f"{done} of {len(plan)} runs are finished", flush=True)
        code = _make_group(group, shared, keep_models=keep_models)
        if code:
            return code
        done += len(group)
    return 0


def _make_group(group: Sequence[_Planned], shared: Shared, *, keep_models: bool) -> int:
    """Makes runs of one program, as many at once as fit in memory."""
    first = prepare(group[0].config, group[0].place, shared)
    if not lanes.can_be_lanes(first):
        codes = (train.run(planned.config, planned.place) for planned in group)
        return next(filter(None, codes), 0)
    program = lanes.Program(first, len(group))
    predict = evaluate.predictor(first.net.trained)
    for begin in range(0, len(group), program.lanes):
        part = group[begin : begin + program.lanes]
        print(f"{len(part)} at once: {', '.join(planned.place.name for planned in part)}")
        runs = [prepare(planned.config, planned.place, shared) for planned in part]
        code = chunk.train(program, runs, predict, keep_models=keep_models)
        if code:
            return code
    return 0


def _complete(config: ConfigDict, name: str, *, initial_follows: bool = False) -> ConfigDict:
    whole = configuration.complete(config, name)
    checks.check(whole, initial_follows=initial_follows)
    return whole.lock()


def _write(study: Study, folder: Path, plan: Sequence[_Planned]) -> None:
    results: dict[Key, dict[int, dict[str, Any]]] = {key: {} for key in study.keys}
    failures = []
    for planned in plan:
        summary = workdir.summary(planned.place) or {}
        if chunk.FAILED in summary:
            failures.append(f"{planned.place.name} failed: {summary[chunk.FAILED]}.")
        else:
            results[planned.key][planned.seed] = summary | {"folder": str(planned.place)}
    rows = {"/".join(key): by_seed for key, by_seed in results.items()}
    write_json(folder / RESULTS, rows)
    if failures and study.complete:
        raise UserError(f"no table, as {' '.join(failures)} Mend its config, and remove its folder")
    findings = study.conclude(results)
    notes = [*findings.notes, *failures]
    table = markdown(findings.columns, findings.rows)
    (folder / TABLE).write_text(table, encoding="utf-8")
    for name, more in findings.more.items():
        (folder / f"{name}.md").write_text(markdown(*more), encoding="utf-8")
    report = folder / workdir.REPORT
    write_study_report(
        report,
        title=folder.name,
        question=study.question,
        answer=findings.answer,
        protocol=study.protocol,
        columns=findings.columns,
        rows=findings.rows,
        more=findings.more,
        figures=findings.figures,
        notes=notes,
    )
    print(f"\n{table}\n{findings.answer}\n" + "".join(f"- {note}\n" for note in notes))
    print(f"report  {report}")


def values(
    results: Results, key: Key, *, split: str = "target_test", metric: str = "accuracy"
) -> list[float]:
    """A metric over the seeds of one key, in the order of the seeds."""
    return [results[key][seed][split][metric]["value"] for seed in sorted(results[key])]


def spread(numbers: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, in percent.

    >>> spread([0.5, 0.6])
    '55.0 ± 7.1'
    """
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{100 * statistics.mean(numbers):.1f} ± {100 * deviation:.1f}"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for a page in Markdown.

    >>> print(markdown(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text.replace("| --- ", "|---").replace("--- |\n", "---|\n")
