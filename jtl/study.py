"""A study: one question, many runs, one table with spread and one report."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jtl import checks, configuration, runtime, train, workdir
from jtl.manifest import write_json
from jtl.report import Picture, write_study_report

TABLE, RESULTS = "table.md", "results.json"

Key = tuple[str, ...]
"""What tells a run from the others: its method and task, say. The seed comes beside it."""
Results = Mapping[Key, Mapping[int, dict[str, Any]]]
"""The summaries of the runs, by key and seed."""


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
      answer: in a sentence or two.
      columns, rows: of the table, as text.
      figures: heading, caption and figure of each picture.
      notes: what to read the table with, such as where transfer hurts.
    """

    answer: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Iterable[Picture]
    notes: Sequence[str] = ()


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
      needs: runs that the others start from, by workdir; they are made first.
    """

    question: str
    protocol: Sequence[str]
    config: Callable[..., ConfigDict]
    keys: Sequence[Key]
    seeds: Sequence[int]
    conclude: Callable[[Results], Findings]
    needs: Mapping[str, ConfigDict] = field(default_factory=dict)


def run(study: Study, folder: Path) -> int:
    """Makes every run that is not finished, then the table and the report.

    Returns:
      0, or the exit code of the run that was stopped; the same command goes on.
    """
    for place, config in study.needs.items():
        code = train.run(_complete(config, place), Path(place))
        if code:
            return code
    results: dict[Key, dict[int, dict[str, Any]]] = {key: {} for key in study.keys}
    total = len(study.keys) * len(study.seeds)
    for key in study.keys:
        for seed in study.seeds:
            name = "-".join((*key, f"seed{seed}"))
            print(f"run {sum(map(len, results.values())) + 1} of {total}: {name}", flush=True)
            place = folder / "runs" / name
            code = train.run(_complete(study.config(*key, seed), name), place)
            if code:
                return code
            results[key][seed] = workdir.summary(place) or {}
    if runtime.is_main_process():
        _write(study, folder, results)
    return 0


def _complete(config: ConfigDict, name: str) -> ConfigDict:
    whole = configuration.complete(config, name)
    checks.check(whole)
    return whole.lock()


def _write(study: Study, folder: Path, results: Results) -> None:
    findings = study.conclude(results)
    rows = {"/".join(key): by_seed for key, by_seed in results.items()}
    write_json(folder / RESULTS, rows)
    table = markdown(findings.columns, findings.rows)
    (folder / TABLE).write_text(table, encoding="utf-8")
    report = folder / workdir.REPORT
    write_study_report(
        report,
        title=folder.name,
        question=study.question,
        answer=findings.answer,
        protocol=study.protocol,
        columns=findings.columns,
        rows=findings.rows,
        figures=findings.figures,
        notes=findings.notes,
    )
    print(f"\n{table}\n{findings.answer}\n" + "".join(f"- {note}\n" for note in findings.notes))
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
