"""What is seen of a run while it trains: its losses, its scores, and how long it will take."""

from pathlib import Path
from typing import Self

import numpy as np

from jtl import evaluate
from jtl.data.splits import Domains
from jtl.log import MetricsLog, Progress, read_metrics
from jtl.types import Terms, TrainState
from jtl.validators import Validator


class Monitor:
    """Writes metrics.jsonl and the progress line. Used as a context, which closes both.

    Args:
      file: metrics.jsonl; records after ``start`` are dropped, since those steps run again.
      start: the step that the run goes on from.
      steps: of the whole run.
      batch_size: labelled examples a step.
      predict: the trained model on examples.
      domains: what it predicts: the test parts, and the target's training part without labels.
      validator: the score that says which checkpoint is best.
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
        validator: Validator,
    ) -> None:
        self._log = MetricsLog(file)
        self._log.truncate_after(start)
        self._progress = Progress(steps, start=start, examples=batch_size)
        self._predict, self._domains, self._validator = predict, domains, validator
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

    def evaluate(self, step: int, state: TrainState) -> None:
        """Notes accuracy and log loss on both test sets. Nothing is ever chosen by the target's."""
        for split in ("source_test", "target_test"):
            examples = getattr(self._domains, split)
            if examples is not None and examples.labels is not None:
                predictions = self._predict(state, examples)
                self._log.write(step, split, evaluate.quick_scores(predictions, examples))

    def selection_score(self, step: int, state: TrainState) -> float:
        """Notes and returns the score of a checkpoint, which reads no target label."""
        source, target = self._domains.source_test, self._domains.target_train
        score = evaluate.selection_score(
            self._validator,
            (self._predict(state, source), source),
            self._predict(state, target) if target else None,
        )
        self._log.write(step, "selection", {"score": score})
        return score

    def message(self, text: str) -> None:
        """Says something above the progress line."""
        self._progress.message(text)
