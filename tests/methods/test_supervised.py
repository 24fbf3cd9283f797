import numpy as np
import pytest
import toys

from jtl.methods.supervised import supervised
from jtl.methods.target_supervised import target_supervised


def test_only_the_oracle_is_one() -> None:
    assert target_supervised().oracle
    assert not any(make().oracle for name, make in toys.METHODS.items() if "target_" not in name)


def test_the_oracle_differs_from_supervised_training_in_its_name_alone() -> None:
    assert target_supervised().phases == supervised().phases
    assert target_supervised().hyper == supervised().hyper


def test_only_the_source_is_read() -> None:
    assert [phase.reads for phase in supervised().phases] == [("source",)]


def test_label_smoothing_is_a_hyper_parameter() -> None:
    run = toys.run("supervised", stages=0)
    start, batch = run.start(), toys.batch(0)
    losses = [
        float(run.step(start, batch, run.hyper | {"label_smoothing": np.float32(value)})[1]["loss"])
        for value in (0.0, 0.5, 1.0)
    ]
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)
    assert losses[0] != losses[2]
