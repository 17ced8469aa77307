"""Manager of all runs of this process and of the store: start, queue, find, stop.

Each device trains one run at a time, since two runs would share its speed and its energy meter.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Sequence

from effcore.config import dense_reference, model_data_fingerprint
from effcore.energy.idle_power import CPU_DEVICE, IdlePowerReader
from effcore.records import Energy, RunConfig, RunStatus, Snapshot
from effcore.runs.resume import build_resume_point
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import Store, StoreError, UnknownRunError, new_run_id
from effcore.store.run_records import is_reference_candidate, reference_settings
from effcore.store.trash import RETENTION_S, Trash
from effcore.training.checkpoint import CheckpointError

log = logging.getLogger(__name__)

#: Ended runs kept in memory; older ones are read from the store.
MAX_FINISHED_RUNS = 8
#: Stored runs cached in memory.
MAX_STORED_RUNS = 4


class DeviceBusyError(RuntimeError):
    """A run is training on the device already.

    Args:
        active: The active run.
    """

    def __init__(self, active: Run) -> None:
        super().__init__(
            f"run {active.run_id} is training on {active.config.device}: "
            "open it, queue the new run, or replace it"
        )
        self.active = active


class DeviceReservedError(RuntimeError):
    """A study has reserved the device.

    Args:
        holder: Name of the study in messages.
        device: The device.
    """

    def __init__(self, holder: str, device: str) -> None:
        super().__init__(f"{holder} has reserved {device}: cancel it, or wait for its end")


class RunManager:
    """All runs of one process; every method may be called from any thread.

    Args:
        store: Store of the runs.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        self._queue: list[Run] = []
        self._stored_runs: dict[str, StoredRun] = {}  # cache, by run id
        self._device_holders: dict[str, str] = {}  # who reserved each device
        self._closing = False
        self._idle_power = IdlePowerReader()

    def reserve_device(self, device: str, holder: str) -> None:
        """Reserve a device for something other than a run, until it is released.

        Raises:
            DeviceBusyError: A run trains on the device.
            DeviceReservedError: The device is reserved already.
        """
        with self._lock:
            if (active := self.active_run(device)) is not None:
                raise DeviceBusyError(active)
            if device in self._device_holders:
                raise DeviceReservedError(self._device_holders[device], device)
            self._device_holders[device] = holder
            self._idle_power.cancel_reading(device)

    def release_device(self, device: str) -> None:
        """Release a reserved device."""
        with self._lock:
            self._device_holders.pop(device, None)

    def start(
        self, config: RunConfig, *, with_reference: bool = False, when_busy: str = "refuse"
    ) -> list[Run]:
        """Start a run, or put it in the queue.

        Args:
            config: Configuration of the run.
            with_reference: Run full training as a reference first, unless the store has it already.
            when_busy: What to do if a run trains on the device: ``refuse``, ``queue`` (behind all
                queued runs) or ``replace`` (stop the active run and clear the queue).

        Returns:
            The runs in the order in which they will train; the last one has ``config``.

        Raises:
            DeviceBusyError: A run trains on the device and ``when_busy`` is ``refuse``.
            DeviceReservedError: A study has reserved the device.
            StoreError: The run cannot be stored.
        """
        with self._lock:
            if config.device in self._device_holders:
                raise DeviceReservedError(self._device_holders[config.device], config.device)
            active = self.active_run(config.device)
            if active is not None and when_busy == "refuse":
                raise DeviceBusyError(active)
            replaced = self._unfinished_runs_on(config.device) if when_busy == "replace" else []
            if with_reference:
                runs = self._make_runs_with_reference(config, replaced)
            else:
                runs = [self._make_run(config, self._find_reference_id(config))]
            # Last, after everything that can fail: replaced runs cannot be brought back.
            if active is not None and when_busy == "replace":
                self._cancel_queued_runs(config.device)
                active.stop()
            self._runs |= {run.run_id: run for run in runs}
            self._queue.extend(runs)
            if active is None and (error := self._start_next_queued(config.device)) is not None:
                for run in runs:
                    run.cancel("the run before it could not be stored")
                raise error
            return runs

    def resume(self, run_id: str) -> Run:
        """Continue an interrupted run from its last checkpoint, under the same id.

        Raises:
            DeviceBusyError: A run trains on its device.
            DeviceReservedError: A study has reserved its device.
            StoreError: The run was not interrupted, or cannot continue; it stays unchanged.
        """
        with self._lock:
            config = self.store.load_snapshot(run_id).config
            self._refuse_if_device_taken(config.device)
            writer, checkpoint = self.store.reopen_run(run_id)
            try:
                resume_point = build_resume_point(self.store.load_snapshot(run_id), checkpoint)
            except (StoreError, CheckpointError) as error:
                writer.close()
                raise StoreError(f"run {run_id} cannot be resumed: {error}") from error
            reference_id = resume_point.snapshot_at_checkpoint.reference_id
            run = Run(
                run_id,
                config,
                lambda: writer,
                reference_id,
                self._on_run_end,
                resume_point,
                self._idle_power,
            )
            self._runs[run_id] = run
            self._stored_runs.pop(run_id, None)
            run.start()
            return run

    def _refuse_if_device_taken(self, device: str) -> None:
        if device in self._device_holders:
            raise DeviceReservedError(self._device_holders[device], device)
        if (active := self.active_run(device)) is not None:
            raise DeviceBusyError(active)

    def _make_runs_with_reference(self, config: RunConfig, replaced: list[Run]) -> list[Run]:
        reference_id = self._find_reference_id(config)
        if reference_id is not None or config == dense_reference(config):
            return [self._make_run(config, reference_id)]
        pending = self._find_unfinished_run(dense_reference(config), replaced)
        dense = self._make_run(dense_reference(config), None) if pending is None else pending
        run = self._make_run(config, dense.run_id)
        return [run] if dense is pending else [dense, run]

    def _find_reference_id(self, config: RunConfig) -> str | None:
        return self.store.find_reference(config, model_data_fingerprint(config))

    def _make_run(self, config: RunConfig, reference_id: str | None) -> Run:
        run_id = new_run_id()
        create = functools.partial(
            self.store.create_run,
            config,
            run_id=run_id,
            exploratory=bool(config.changes),
            reference_id=reference_id,
            fingerprint=model_data_fingerprint(config),
        )
        return Run(
            run_id,
            config,
            create,
            reference_id,
            on_end=self._on_run_end,
            idle_power=self._idle_power,
        )

    def _unfinished_runs_on(self, device: str) -> list[Run]:
        """Return the active and queued runs of a device."""
        return [r for r in self._runs.values() if r.config.device == device and not r.done.is_set()]

    def _find_unfinished_run(self, config: RunConfig, excluded: list[Run]) -> Run | None:
        """Return an active or queued run with this configuration that is not being stopped."""
        for run in self._runs.values():
            ending = run.done.is_set() or run.stop_requested
            if run.config == config and not ending and run not in excluded:
                return run
        return None

    def _start_next_queued(self, device: str) -> StoreError | None:
        """Start the first queued run of the device that can be stored.

        Returns:
            The error of the last run that could not be stored, if there was one.
        """
        problem: StoreError | None = None
        # Another thread may have started a run since the last one ended.
        while not self._closing and self.active_run(device) is None:
            waiting = [run for run in self.queued_runs() if run.config.device == device]
            if not waiting:
                break
            self._queue.remove(waiting[0])
            try:
                waiting[0].start()
            except StoreError as error:
                log.error("run %s cannot be stored: %s", waiting[0].run_id, error)
                waiting[0].cancel(str(error), RunStatus.FAILED)
                problem = error
        return problem

    def _on_run_end(self, run: Run) -> None:
        with self._lock:
            ended = [r.run_id for r in self._runs.values() if r.done.is_set()]
            for run_id in ended[:-MAX_FINISHED_RUNS]:
                del self._runs[run_id]
            self._offer_as_reference(run)
            device = run.config.device
            self._start_next_queued(device)
            # A run that could not be resumed keeps its stored energy.
            was_trained = run.snapshot().status is not RunStatus.INTERRUPTED
            if was_trained and run.meter.is_measured and self._is_device_idle(device):
                self._idle_power.start_reading(
                    device, functools.partial(self._store_idle_power, run)
                )

    def _offer_as_reference(self, run: Run) -> None:
        """Make finished full training the reference of earlier runs that have none."""
        steady = run.snapshot().status is RunStatus.FINISHED and not run.snapshot().exploratory
        if not steady or not is_reference_candidate(run.config):
            return
        settings = reference_settings(run.config)
        for other in self._runs.values():
            alike = reference_settings(other.config) == settings
            if alike and other.reference_id is None and other is not run:
                other.reference_id = run.run_id

    def reference_of(self, snapshot: Snapshot) -> Snapshot | None:
        """Return the finished full training that a run is compared with, if there is one."""
        try:
            known = self.store.references_of([self.store.summary(snapshot.run_id)])
            reference = known.get(snapshot.run_id)
            run = None if reference is None else self.find_run(reference.run_id)
        except StoreError:  # the run can be shown without it
            return None
        return None if run is None else run.snapshot()

    def _is_device_idle(self, device: str) -> bool:
        """Return whether no run or study uses a device now or is about to."""
        if self._closing:
            return False
        if device == CPU_DEVICE:  # the CPU works for runs on every device
            return not self._device_holders and self.active_run() is None
        return device not in self._device_holders and self.active_run(device) is None

    def _store_idle_power(self, run: Run, idle_energy: Energy) -> None:
        """Add the idle power read after a run to the run's energy, and store it."""
        if run.meter.add_idle_reading(idle_energy):
            try:
                self.store.replace_energy(run.run_id, run.snapshot().energy)
            except (
                StoreError
            ) as error:  # the stored energy keeps the short reading and a note about it
                log.warning(
                    "the idle power after run %s could not be stored: %s", run.run_id, error
                )

    def _cancel_queued_runs(self, device: str) -> None:
        for run in [r for r in self._queue if r.config.device == device]:
            self._queue.remove(run)
            run.cancel("replaced by another run")

    def active_run(self, device: str | None = None) -> Run | None:
        """Return the run that trains now, on ``device`` or on any device."""
        with self._lock:
            for run in self._runs.values():
                on_device = device is None or run.config.device == device
                if on_device and run.started and not run.done.is_set():
                    return run
        return None

    def queued_runs(self) -> list[Run]:
        """Return the queued runs in order."""
        with self._lock:
            return [run for run in self._queue if not run.done.is_set()]

    def runs_in_other_processes(self, device: str) -> list[str]:
        """Return the runs that train on ``device`` in other processes that use this store.

        A run cannot be queued behind them from this process, and its time and energy include
        their load on the device.

        Raises:
            StoreError: The store cannot be read.
        """
        unfinished = self.store.unfinished_runs()
        with self._lock:
            own_ids = set(self._runs)
        return [
            run.run_id
            for run in unfinished
            if run.config.device == device and run.run_id not in own_ids
        ]

    def find_run(self, run_id: str) -> Run | StoredRun | None:
        """Return a run of this process, else a stored one, else ``None``.

        Raises:
            StoreError: The store cannot be read, or the run in it is damaged.
        """
        with self._lock:
            if run_id in self._runs:
                return self._runs[run_id]
            cached = self._stored_runs.get(run_id)
        try:
            if cached is not None:
                self.store.check_run_exists(run_id)  # it may have been deleted meanwhile
                return cached
            run = StoredRun(self.store, run_id)
        except UnknownRunError:
            return None
        with self._lock:  # pages ask often, and a long run takes long to read
            self._stored_runs = dict([*self._stored_runs.items(), (run_id, run)][-MAX_STORED_RUNS:])
        return run

    def trash_runs(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Move runs to the trash, except those that are in use.

        Returns:
            The reason for each run that was not moved, by id.

        Raises:
            StoreError: The store cannot be written.
        """
        refused = Trash(self.store).add_runs(run_ids)
        with self._lock:
            for run_id in set(run_ids) - set(refused):
                self._stored_runs.pop(run_id, None)
                if run_id in self._runs and self._runs[run_id].done.is_set():
                    del self._runs[run_id]
        return refused

    def stop_all(self, timeout: float = 5.0) -> None:
        """Stop all runs and wait until they are stored; for shutdown."""
        with self._lock:
            self._closing = True
            queue, self._queue = self._queue, []
            running = [run for run in self._runs.values() if run.started]
        for run in queue:
            run.cancel("the program ended before this run started")
        for run in running:
            run.stop()
        self._idle_power.close()
        deadline = time.monotonic() + timeout
        for run in running:
            run.join(max(0.0, deadline - time.monotonic()))


_shared_manager: RunManager | None = None
_shared_manager_lock = threading.Lock()


def shared_run_manager() -> RunManager:
    """Return the one :class:`RunManager` of this process, opening the store at first use.

    Raises:
        StoreError: The store cannot be used; the next call tries again.
    """
    global _shared_manager
    with _shared_manager_lock:
        if _shared_manager is None:
            _shared_manager = RunManager(Store())
            _purge_expired_trash(_shared_manager.store)
        return _shared_manager


def _purge_expired_trash(store: Store) -> None:
    """Purge expired items of the trash; a failure is logged and does not prevent the start."""
    try:
        Trash(store).purge(older_than_s=RETENTION_S)
    except StoreError as error:
        log.warning("the trash could not be purged: %s", error)


def close_shared_run_manager() -> None:
    """Stop all runs and close the store; the next :func:`shared_run_manager` opens it again."""
    global _shared_manager
    with _shared_manager_lock:
        if _shared_manager is not None:
            _shared_manager.stop_all()
            _shared_manager.store.close()
        _shared_manager = None


def active_run() -> Run | None:
    """Return the run that trains now in this process; ``None`` if the store cannot be used."""
    try:
        return shared_run_manager().active_run()
    except StoreError:
        return None
