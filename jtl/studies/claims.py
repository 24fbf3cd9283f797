"""Which runs of a study a worker takes next: such that nobody is at, claimed before it begins.

Any number of workers may share the folder of a study, on any machines: a claim is a lock that the
system takes from whoever dies.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from jtl.records import workdir
from jtl.studies import attempts
from jtl.studies.plan import Plan, Planned


class Share(NamedTuple):
    """Which of how many workers one is. What it takes first, and how much at once, goes by it."""

    number: int = 1
    total: int = 1


class Part:
    """Claimed runs of one program; used as a context, which lets them go.

    Attributes:
      runs: that are claimed.
      others: whether somebody else is at runs of the program.
    """

    def __init__(self, session: str) -> None:
        self.runs: list[Planned] = []
        self.others = False
        self._session, self._claims = session, list[ExitStack]()
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.keep(0)

    def add(self, run: Planned, *, troubled: bool) -> None:
        """Claims a run, if it is to be made and nobody is at it.

        Args:
          run: of the program.
          troubled: whether to take one of which an attempt has failed, rather than one without.
        """
        with ExitStack() as claim:
            try:
                claim.enter_context(workdir.claim(run.place, run.config.to_dict()))
            except workdir.TakenError:
                self.others = True
                return
            times = attempts.failed(run.place, self._session)
            if workdir.summary(run.place) is not None or bool(times) != troubled:
                return
            if times >= attempts.MOST:
                if not attempts.is_given_up(run.place, self._session):
                    attempts.fail(run.place, self._session)
                return
            self.runs.append(run)
            self._claims.append(claim.pop_all())

    def begin(self) -> None:
        """Notes that this process is at the runs."""
        self._begun = True
        for run in self.runs:
            attempts.begin(run.place, self._session)

    def keep(self, count: int) -> None:
        """Lets go all but the first."""
        for run in self.runs[count:] if self._begun else ():  # else the note is another session's
            attempts.end(run.place)
        self._release(count)

    def fail(self, reason: str) -> None:
        """Notes that an attempt at each of them has failed, and lets them go."""
        for run in self.runs:
            attempts.fail(run.place, self._session, reason)
        self._release(0)

    def _release(self, count: int) -> None:
        for claim in self._claims[count:]:
            claim.close()
        del self.runs[count:], self._claims[count:]


class Queue:
    """The runs of a study that are still to be made, as one worker sees them."""

    def __init__(self, plan: Plan, share: Share, session: str) -> None:
        self._share, self._session = share, session
        self._open = plan.unfinished()

    def open(self) -> list[Planned]:
        """The runs that are neither finished nor given up."""
        self._open = [run for run in self._open if not self._has_ended(run)]
        return self._open

    def take(self, last: str, most: int | None) -> Part:
        """Claims runs of one program, as many as this worker has to make at once; or none.

        First of a program that nobody else is at. A run of which an attempt has failed is taken
        after all others and alone, so that it takes none with it.

        Args:
          last: the program that this worker has compiled, which comes first.
          most: how many runs at most.
        """
        groups = self._groups(last)
        pieces = -(-self._share.total // max(1, len(groups)))
        for alone in (True, False):
            for group in groups:
                part = Part(self._session)
                mine = group[0].program == last
                wanted = min(-(-len(group) // pieces), (mine and most) or len(group))
                for run in group:
                    if len(part.runs) < wanted:
                        part.add(run, troubled=False)
                if part.runs and (mine or not (alone and part.others)):
                    part.begin()
                    return part
                part.keep(0)
        return self._troubled(groups)

    def _troubled(self, groups: Sequence[Sequence[Planned]]) -> Part:
        part = Part(self._session)
        for run in (run for group in groups for run in group):
            part.add(run, troubled=True)
            if part.runs:
                break
        part.begin()
        return part

    def _groups(self, last: str) -> list[list[Planned]]:
        """The runs that are open and can be made now, by program; this worker's share first."""
        groups: dict[str, list[Planned]] = {}
        for run in self.open():
            if is_ready(run):
                groups.setdefault(run.program, []).append(run)
        found = list(groups.values())
        first = len(found) * (self._share.number - 1) // self._share.total
        found = found[first:] + found[:first]
        return sorted(found, key=lambda group: (group[0].program != last, not group[0].keeps_model))

    def _has_ended(self, run: Planned) -> bool:
        if workdir.summary(run.place) is not None:
            return True
        if not attempts.is_given_up(run.place, self._session) and self._is_lost(run):
            run.place.mkdir(parents=True, exist_ok=True)
            said = f"it starts from {run.initial and run.initial.name}, which failed"
            attempts.give_up(run.place, self._session, said)
        return attempts.is_given_up(run.place, self._session)

    def _is_lost(self, run: Planned) -> bool:
        """Has the run that it starts from failed?"""
        if run.initial is None:
            return False
        summary = workdir.summary(run.initial)
        failed = summary is not None and workdir.FAILED in summary
        return failed or attempts.is_given_up(run.initial, self._session)


def is_ready(run: Planned) -> bool:
    """Is the run that it starts from finished, if it starts from one?"""
    return run.initial is None or workdir.summary(run.initial) is not None
