"""The study or sweep that this process carries out, for pages to look at and cancel."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from effcore.runs.manager import RunManager
from effcore.store import Store, StoreError
from effcore.store.study_table import StudyTable
from effcore.studies.active_runs import estimate_seconds_left
from effcore.studies.comparison import open_study, run_study
from effcore.studies.executor import StudyProgress
from effcore.studies.plan import StudyPlan
from effcore.studies.sweep import SweepPlan
from effcore.studies.sweep_executor import open_sweep, run_sweep

log = logging.getLogger(__name__)
#: Longest wait for a cancelled study's runs to end.
_SHUTDOWN_TIMEOUT_S = 10.0


class StudyJob:
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
        ended: Set when it is over.

    Raises:
        BusyError: A run trains on its device.
        HeldError: Another study has it.
        StoreError: The store cannot be used.
        ValueError: What is stored of the study is damaged.
    """

    def __init__(self, runs: RunManager, plan: StudyPlan | SweepPlan, jobs: int) -> None:
        self._runs, self._device = runs, str(plan.shared.get("device", "cpu"))
        runs.reserve_device(self._device, "a study")
        try:
            self.study_id, self.plan = _open_plan(runs.store, plan)
        except BaseException:
            runs.release_device(self._device)
            raise
        self.progress = StudyProgress(0, 0, None)
        self._started, self._done_at_start = time.monotonic(), 0
        self.problem = ""
        self.ended = threading.Event()
        self._store, self._jobs = runs.store, jobs
        self._thread = threading.Thread(
            target=self._run, name=f"study-{self.study_id}", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            for place, progress in enumerate(self._progress_steps()):
                if place == 0:  # what was there before took none of this study's time
                    self._done_at_start = progress.done
                self.progress = progress
        except StoreError as error:
            self.problem = str(error)
        except Exception as error:  # whatever it was, the page says so; its words may hold paths
            log.exception("study %s failed", self.study_id)
            self.problem = f"{type(error).__name__}; the log says more. What is done stays."
        finally:
            self._runs.release_device(self._device)
            self.ended.set()

    def seconds_left(self, active_steps: float = 0.0) -> float | None:
        """Return about how long the rest takes; ``None`` before anything can be said.

        Args:
            active_steps: How much of the runs that train is done, all together.
        """
        told = self.progress
        done, left = (
            told.done - self._done_at_start + active_steps,
            told.total - told.done - active_steps,
        )
        return estimate_seconds_left(time.monotonic() - self._started, done, left)

    def _progress_steps(self) -> Iterator[StudyProgress]:
        if isinstance(self.plan, SweepPlan):
            return run_sweep(self._store, self.study_id, self.plan, self._jobs)
        return run_study(self._store, self.study_id, self.plan, self._jobs)

    def cancel(self) -> None:
        """Leave the rest; what is stored stays, and the same study can go on later.

        Raises:
            StoreError: The store cannot be written.
        """
        StudyTable(self._store).cancel(self.study_id)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _open_plan(store: Store, plan: StudyPlan | SweepPlan) -> tuple[str, StudyPlan | SweepPlan]:
    if isinstance(plan, SweepPlan):
        sweep, searched = open_sweep(store, plan)
        return sweep.study_id, searched
    study, compared = open_study(store, plan)
    return study.study_id, compared


_current_job: StudyJob | None = None
_lock = threading.Lock()


def current_study_job() -> StudyJob | None:
    """Return the study that is carried out now or was last."""
    return _current_job


def start_study_job(runs: RunManager, plan: StudyPlan | SweepPlan, jobs: int) -> StudyJob:
    """Begin a study or a sweep, or go on with it.

    Raises:
        RuntimeError: Another one is under way, or a run trains on its device.
        StoreError: The store cannot be used.
        ValueError: What is stored of the study is damaged.
    """
    global _current_job
    with _lock:
        if _current_job is not None and not _current_job.ended.is_set():
            raise RuntimeError("a study is under way: cancel it, or wait for its end")
        _current_job = StudyJob(runs, plan, jobs)
        return _current_job


def stop_study_job() -> None:
    """Cancel what is under way and wait for it; for shutdown."""
    global _current_job
    with _lock:
        study, _current_job = _current_job, None
    if study is None or study.ended.is_set():
        return
    try:
        study.cancel()
    except StoreError as error:
        log.warning("the study under way could not be cancelled: %s", error)
    study.join(_SHUTDOWN_TIMEOUT_S)
