"""What is seen of a run while it trains: its losses, its scores, and how long it will take."""

from pathlib import Path
from typing import Self

import numpy as np

from jtl.data.splits import Domains
from jtl.records.log import MetricsLog, Progress, read_metrics
from jtl.training import evaluate
from jtl.types import Terms, TrainState


class Monitor:
    """Writes metrics.jsonl and the progress line. Used as a context, which closes both.

    Args:
      file: metrics.jsonl; records after ``start`` are dropped, since those steps run again.
      start: the step that the run goes on from.
      steps: of the whole run.
      batch_size: labelled examples a step.
      predict: the trained model on examples.
      domains: what it predicts: the test parts, and the target's training part without labels.
      most: of each domain's examples, so many are read by validators.
    """

    def __init__(
        self,
        file: Path,
        *,
        start: int,
        steps: int,
        batch_size: int,
        predict: evaluate.Predict,
        domains: Domains,
        most: int,
    ) -> None:
        self._log = MetricsLog(file)
        self._log.truncate_after(start)
        self._progress = Progress(steps, start=start, examples=batch_size)
        self._predict, self._domains, self._most = predict, domains, most
        trained = [r["values"] for r in read_metrics(file) if r["split"] == "train"]
        self._seconds = trained[-1]["seconds"] if trained else 0.0
        self._unwritten: list[Terms] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()
        self._log.close()

    def trained(self, step: int, metrics: Terms, seconds: float) -> None:
        """Moves the progress line on to ``step``.

        Args:
          step: how many are done.
          metrics: each term at each of the steps since the last call.
          seconds: that these took.
        """
        self._progress.update(step, {name: np.mean(values) for name, values in metrics.items()})
        self._unwritten.append(metrics)
        self._seconds += seconds

    def record(self, step: int) -> None:
        """Notes each term's mean since the last record, and the seconds of training up to here."""
        stretches, self._unwritten = self._unwritten, []
        means = {
            name: np.mean(np.concatenate([metrics[name] for metrics in stretches]))
            for name in stretches[0]
        }
        self._log.write(step, "train", means | {"seconds": self._seconds})

    def evaluate(self, step: int, state: TrainState) -> dict[str, float]:
        """Notes how good the state is on both test sets, and what the validators say of it.

        Returns:
          The score of each validator; none reads a target label.
        """
        found = evaluate.scores(self._domains, state, self._predict, most=self._most)
        for split, values in found.items():
            self._log.write(step, split, values)
        return found["validators"]

    def message(self, text: str) -> None:
        """Says something above the progress line."""
        self._progress.message(text)
