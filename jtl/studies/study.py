"""A study: one question, many runs, one table with spread and one report."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jtl.errors import UserError
from jtl.records import workdir
from jtl.records.manifest import write_json
from jtl.records.report import Picture, Table, write_study_report

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


class Ended(NamedTuple):
    """A run that came to an end.

    Attributes:
      key, seed: that tell it from the others.
      place: its folder.
      failure: why it has no result; empty where it has.
    """

    key: Key
    seed: int
    place: Path
    failure: str


def write(study: Study, folder: Path, runs: Sequence[Ended]) -> None:
    """Gathers the results, and writes the table and the report.

    Raises:
      UserError: a run failed that the table needs.
    """
    results: dict[Key, dict[int, dict[str, Any]]] = {key: {} for key in study.keys}
    for run in runs:
        if not run.failure:
            summary = workdir.summary(run.place) or {}
            results[run.key][run.seed] = summary | {"folder": str(run.place)}
    rows = {"/".join(key): by_seed for key, by_seed in results.items()}
    write_json(folder / RESULTS, rows)
    failures = [f"{run.place.name} failed: {run.failure}." for run in runs if run.failure]
    if failures and study.complete:
        raise UserError(
            f"no table, as {' '.join(failures)} Mend its config, and remove its folder; the same "
            "command tries again what died, or had too little memory"
        )
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
