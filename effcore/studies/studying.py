"""The study or sweep that this process carries out, for pages to look at and cancel."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from effcore.runs.manager import Runs
from effcore.store import Store, StoreError
from effcore.store.studies import Studies
from effcore.studies.cell import Progress
from effcore.studies.compare import carry_out, open_study
from effcore.studies.running import seconds_left
from effcore.studies.searching import open_sweep, search
from effcore.studies.study import Plan
from effcore.studies.sweep import SweepPlan

log = logging.getLogger(__name__)
#: Longest wait for a cancelled study's runs to end.
_LEAVE_S = 10.0


class Studying:
    """One study being carried out; every method may be called from any thread.

    Args:
        runs: The runs of this process, beside which it has its device to itself.
        plan: What it compares or searches; if it was begun before, it is gone on with.
        jobs: Runs at a time.

    Attributes:
        study_id: Its id.
        plan: Its plan, with all seeds or trials that ever joined.
        progress: How far it has got, in runs and trials that have ended.
        problem: Why it ended early; empty where it did not.
        done: Set when it is over.

    Raises:
        BusyError: A run trains on its device.
        HeldError: Another study has it.
        StoreError: The store cannot be used.
        ValueError: What is stored of the study is damaged.
    """

    def __init__(self, runs: Runs, plan: Plan | SweepPlan, jobs: int) -> None:
        self._runs, self._device = runs, str(plan.shared.get("device", "cpu"))
        runs.hold(self._device, "a study")
        try:
            self.study_id, self.plan = _open(runs.store, plan)
        except BaseException:
            runs.release(self._device)
            raise
        self.progress = Progress(0, 0, None)
        self._began, self._before = time.monotonic(), 0
        self.problem = ""
        self.done = threading.Event()
        self._store, self._jobs = runs.store, jobs
        self._thread = threading.Thread(
            target=self._carry_out, name=f"study-{self.study_id}", daemon=True
        )
        self._thread.start()

    def _carry_out(self) -> None:
        try:
            for place, progress in enumerate(self._work()):
                if place == 0:  # what was there before took none of this study's time
                    self._before = progress.done
                self.progress = progress
        except StoreError as error:
            self.problem = str(error)
        except Exception as error:  # whatever it was, the page says so; its words may hold paths
            log.exception("study %s failed", self.study_id)
            self.problem = f"{type(error).__name__}; the log says more. What is done stays."
        finally:
            self._runs.release(self._device)
            self.done.set()

    def seconds_left(self, running: float = 0.0) -> float | None:
        """Return about how long the rest takes; ``None`` before anything can be said.

        Args:
            running: How much of the runs that train is done, all together.
        """
        told = self.progress
        done, left = told.done - self._before + running, told.total - told.done - running
        return seconds_left(time.monotonic() - self._began, done, left)

    def _work(self) -> Iterator[Progress]:
        if isinstance(self.plan, SweepPlan):
            return search(self._store, self.study_id, self.plan, self._jobs)
        return carry_out(self._store, self.study_id, self.plan, self._jobs)

    def cancel(self) -> None:
        """Leave the rest; what is stored stays, and the same study can go on later.

        Raises:
            StoreError: The store cannot be written.
        """
        Studies(self._store).cancel(self.study_id)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _open(store: Store, plan: Plan | SweepPlan) -> tuple[str, Plan | SweepPlan]:
    if isinstance(plan, SweepPlan):
        sweep, searched = open_sweep(store, plan)
        return sweep.study_id, searched
    study, compared = open_study(store, plan)
    return study.study_id, compared


_current: Studying | None = None
_lock = threading.Lock()


def current_study() -> Studying | None:
    """Return the study that is carried out now or was last."""
    return _current


def start_study(runs: Runs, plan: Plan | SweepPlan, jobs: int) -> Studying:
    """Begin a study or a sweep, or go on with it.

    Raises:
        RuntimeError: Another one is under way, or a run trains on its device.
        StoreError: The store cannot be used.
        ValueError: What is stored of the study is damaged.
    """
    global _current
    with _lock:
        if _current is not None and not _current.done.is_set():
            raise RuntimeError("a study is under way: cancel it, or wait for its end")
        _current = Studying(runs, plan, jobs)
        return _current


def leave_study() -> None:
    """Cancel what is under way and wait for it; for shutdown."""
    global _current
    with _lock:
        study, _current = _current, None
    if study is None or study.done.is_set():
        return
    try:
        study.cancel()
    except StoreError as error:
        log.warning("the study under way could not be cancelled: %s", error)
    study.join(_LEAVE_S)
