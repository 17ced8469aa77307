"""The study or sweep that this process runs; pages show its progress and can cancel it."""

from __future__ import annotations

import logging
import threading
import time

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
    """A study or sweep that runs in a thread; every method may be called from any thread.

    Args:
        runs: The runs of this process; the study reserves its device from them.
        plan: The plan; a stored study with the same plan continues.
        jobs: Runs at a time.

    Attributes:
        study_id: Its id.
        plan: Its plan, with all seeds or trials that were added so far.
        progress: Runs and trials that have ended, and their total.
        problem: Why it ended early; empty where it did not.
        ended: Set when it has ended.

    Raises:
        DeviceBusyError: A run trains on its device.
        DeviceReservedError: Another study reserved its device.
        StoreError: The store cannot be used.
        ValueError: The stored plan is damaged.
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
            if isinstance(self.plan, SweepPlan):
                steps = run_sweep(self._store, self.study_id, self.plan, self._jobs)
            else:
                steps = run_study(self._store, self.study_id, self.plan, self._jobs)
            for step, progress in enumerate(steps):
                if step == 0:  # stored runs took none of this job's time
                    self._done_at_start = progress.done
                self.progress = progress
        except StoreError as error:
            self.problem = str(error)
        except Exception as error:  # shown on a page without its message, which may hold paths
            log.exception("study %s failed", self.study_id)
            self.problem = (
                f"{type(error).__name__}: see the log for details. Finished runs are kept."
            )
        finally:
            self._runs.release_device(self._device)
            self.ended.set()

    def seconds_left(self, active_steps: float = 0.0) -> float | None:
        """Return an estimate of the remaining time; ``None`` while too little is done.

        Args:
            active_steps: Progress of the active runs, added up.
        """
        progress = self.progress
        done = progress.done - self._done_at_start + active_steps
        left = progress.total - progress.done - active_steps
        return estimate_seconds_left(time.monotonic() - self._started, done, left)

    def cancel(self) -> None:
        """Cancel the study; finished runs are kept, and the study can continue later.

        Raises:
            StoreError: The store cannot be written.
        """
        StudyTable(self._store).cancel(self.study_id)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; return whether the study has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _open_plan(store: Store, plan: StudyPlan | SweepPlan) -> tuple[str, StudyPlan | SweepPlan]:
    if isinstance(plan, SweepPlan):
        stored, sweep_plan = open_sweep(store, plan)
        return stored.study_id, sweep_plan
    stored, study_plan = open_study(store, plan)
    return stored.study_id, study_plan


_current_job: StudyJob | None = None
_lock = threading.Lock()


def current_study_job() -> StudyJob | None:
    """Return the study that runs now, or the last one that ran."""
    return _current_job


def start_study_job(runs: RunManager, plan: StudyPlan | SweepPlan, jobs: int) -> StudyJob:
    """Start or continue a study or a sweep.

    Raises:
        RuntimeError: Another one is running, or a run trains on its device.
        StoreError: The store cannot be used.
        ValueError: The stored plan is damaged.
    """
    global _current_job
    with _lock:
        if _current_job is not None and not _current_job.ended.is_set():
            raise RuntimeError("a study is running: cancel it, or wait until it ends")
        _current_job = StudyJob(runs, plan, jobs)
        return _current_job


def stop_study_job() -> None:
    """Cancel the running study and wait for its end; called at shutdown."""
    global _current_job
    with _lock:
        job, _current_job = _current_job, None
    if job is None or job.ended.is_set():
        return
    try:
        job.cancel()
    except StoreError as error:
        log.warning("the running study could not be cancelled: %s", error)
    job.join(_SHUTDOWN_TIMEOUT_S)
