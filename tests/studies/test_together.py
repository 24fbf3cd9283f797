"""Processes that fail, and others that hear of it: two threads stand for them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jtl.devices import runtime
from jtl.errors import UserError

Body = Callable[[], object]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Body, Body], list[object]]]:
    """Runs two bodies, each as a process that gathers what both say; returns how each ended."""
    local, barrier = threading.local(), threading.Barrier(2, timeout=10)
    said: dict[int, np.ndarray] = {}

    def gathered(values: np.ndarray) -> np.ndarray:
        said[local.rank] = values
        barrier.wait()
        both = np.stack([said[0], said[1]])
        barrier.wait()
        return both

    def process(rank: int, body: Body) -> object:
        local.rank = rank
        try:
            with runtime.together():
                return body()
        except Exception as error:
            return error

    monkeypatch.setattr(runtime, "_gathered", gathered)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with ThreadPoolExecutor(2) as threads:
        yield lambda *bodies: list(threads.map(process, (0, 1), bodies))


def fails() -> None:
    raise UserError("the disk is full")


def breaks() -> None:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(("answers", "agreed"), [((1, 1), True), ((1, 0), False), ((0, 0), False)])
def test_all_agree_or_none_does(run, answers, agreed) -> None:
    first, second = (bool(answer) for answer in answers)
    ends = run(lambda: runtime.all_agree(first), lambda: runtime.all_agree(second))
    assert ends == [agreed, agreed]


def test_who_waits_for_an_answer_hears_of_a_failure(run) -> None:
    """And who failed, on its way to where it would have answered, waits for nobody more."""
    failed, heard = run(fails, lambda: runtime.all_agree(True))
    assert str(failed) == str(heard) == "the disk is full"
    assert isinstance(heard, UserError)


def test_a_failure_that_is_no_mistake_of_the_user_stays_what_it_is(run) -> None:
    heard, failed = run(lambda: [runtime.all_agree(True) for _ in range(3)], breaks)
    assert isinstance(failed, ZeroDivisionError) and isinstance(heard, UserError)
    assert "stopped: ZeroDivisionError: division by zero" in str(heard)


def test_a_failure_after_an_answer_is_heard_at_the_end(run) -> None:
    def answers_and_fails() -> None:
        assert runtime.all_agree(True)
        fails()

    ends = run(answers_and_fails, lambda: runtime.all_agree(True))
    assert [str(end) for end in ends] == ["the disk is full"] * 2
