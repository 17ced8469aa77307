"""All runs of this process and of the store: start, queue, find, stop.

One run per device trains at a time, since two would share its meter and its speed.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Sequence

from effcore.config import dense_reference, model_data_fingerprint
from effcore.energy.idle_power import CPU_DEVICE, IdlePowerReader
from effcore.records import Energy, RunConfig, RunStatus
from effcore.runs.resuming import interrupted
from effcore.runs.runner import Run
from effcore.runs.stored import StoredRun
from effcore.store import Store, StoreError, UnknownRunError, new_run_id
from effcore.store.amended import amend
from effcore.store.trash import KEPT_S, Trash
from effcore.training.checkpoint import CheckpointError

log = logging.getLogger(__name__)

#: Finished runs kept in memory; older ones are read from the store again.
KEPT = 8
#: Runs read from the store kept in memory.
KEPT_READ = 4


class BusyError(RuntimeError):
    """A run is training on the device already.

    Args:
        active: That run.
    """

    def __init__(self, active: Run) -> None:
        super().__init__(
            f"run {active.run_id} is training on {active.config.device}: "
            "open it, queue the new run, or replace it"
        )
        self.active = active


class HeldError(RuntimeError):
    """A study has the device to itself.

    Args:
        what: The study, in words.
        device: The device.
    """

    def __init__(self, what: str, device: str) -> None:
        super().__init__(f"{what} has {device} to itself: cancel it, or wait for its end")


class Runs:
    """The runs of one process; every method may be called from any thread.

    Args:
        store: Where runs are kept.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        self._queue: list[Run] = []
        self._read: dict[str, StoredRun] = {}  # as last read from the store
        self._held: dict[str, str] = {}  # devices that something else has to itself
        self._closing = False
        self._idling = IdlePowerReader()

    def hold(self, device: str, what: str) -> None:
        """Take a device for something other than a run, until it is released.

        Raises:
            BusyError: A run trains on it.
            HeldError: Something has it already.
        """
        with self._lock:
            if (active := self.active(device)) is not None:
                raise BusyError(active)
            if device in self._held:
                raise HeldError(self._held[device], device)
            self._held[device] = what
            self._idling.cancel_reading(device)

    def release(self, device: str) -> None:
        """Let a device go that was held."""
        with self._lock:
            self._held.pop(device, None)

    def start(
        self, config: RunConfig, *, reference: bool = False, when_busy: str = "refuse"
    ) -> list[Run]:
        """Start a run, or put it in the queue.

        Args:
            config: What to train.
            reference: Train the dense reference first, unless the store has it already.
            when_busy: What to do if the device is taken: ``refuse``, ``queue`` (after all
                that wait) or ``replace`` (stop the active run and drop the queue).

        Returns:
            The runs in the order they will train; the last one is the one asked for.

        Raises:
            BusyError: The device is taken and ``when_busy`` is ``refuse``.
            HeldError: A study has it to itself.
            StoreError: The run cannot be stored.
        """
        with self._lock:
            if config.device in self._held:
                raise HeldError(self._held[config.device], config.device)
            active = self.active(config.device)
            if active is not None and when_busy == "refuse":
                raise BusyError(active)
            replaced = self._on(config.device) if when_busy == "replace" else []
            if reference:
                runs = self._with_reference(config, replaced)
            else:
                runs = [self._make(config, self._reference_of(config))]
            # Only now, when all that could fail has been done: replaced runs are gone for good.
            if active is not None and when_busy == "replace":
                self._drop_queue(config.device)
                active.stop()
            self._runs |= {run.run_id: run for run in runs}
            self._queue.extend(runs)
            if active is None and (error := self._start_next(config.device)) is not None:
                for run in runs:
                    run.cancel("the run before it could not be stored")
                raise error
            return runs

    def resume(self, run_id: str) -> Run:
        """Go on with an interrupted run from its last checkpoint, under its own id.

        Raises:
            BusyError: A run trains on its device.
            HeldError: A study has it to itself.
            StoreError: It was not interrupted, or cannot go on; it then stays as it is.
        """
        with self._lock:
            config = self.store.load(run_id).config
            self._refuse_if_taken(config.device)
            writer, kept = self.store.reopen(run_id)
            try:
                since = interrupted(self.store.load(run_id), kept)
            except (StoreError, CheckpointError) as error:
                writer.close()
                raise StoreError(f"run {run_id} cannot be resumed: {error}") from error
            reference_id = since.before.reference_id
            run = Run(
                run_id, config, lambda: writer, reference_id, self._ended, since, self._idling
            )
            self._runs[run_id] = run
            self._read.pop(run_id, None)
            run.start()
            return run

    def _refuse_if_taken(self, device: str) -> None:
        if device in self._held:
            raise HeldError(self._held[device], device)
        if (active := self.active(device)) is not None:
            raise BusyError(active)

    def _with_reference(self, config: RunConfig, replaced: list[Run]) -> list[Run]:
        known = self._reference_of(config)
        if known is not None or config == dense_reference(config):
            return [self._make(config, known)]
        coming = self._coming(dense_reference(config), replaced)
        dense = self._make(dense_reference(config), None) if coming is None else coming
        run = self._make(config, dense.run_id)
        return [run] if dense is coming else [dense, run]

    def _reference_of(self, config: RunConfig) -> str | None:
        return self.store.find_reference(config, model_data_fingerprint(config))

    def _make(self, config: RunConfig, reference_id: str | None) -> Run:
        run_id = new_run_id()
        create = functools.partial(
            self.store.create,
            config,
            run_id=run_id,
            exploratory=bool(config.changes),
            reference_id=reference_id,
            fingerprint=model_data_fingerprint(config),
        )
        return Run(run_id, config, create, reference_id, on_end=self._ended, idling=self._idling)

    def _on(self, device: str) -> list[Run]:
        """Return the runs that train or wait on a device."""
        return [r for r in self._runs.values() if r.config.device == device and not r.done.is_set()]

    def _coming(self, config: RunConfig, without: list[Run]) -> Run | None:
        """Return a run of exactly this configuration that trains or waits, to its end."""
        for run in self._runs.values():
            over = run.done.is_set() or run.stopping
            if run.config == config and not over and run not in without:
                return run
        return None

    def _start_next(self, device: str) -> StoreError | None:
        """Start what has waited longest for the device and can be stored.

        Returns:
            Why the last of those that could not be stored could not.
        """
        problem: StoreError | None = None
        # A run may have been started between another's end and the call that follows it.
        while not self._closing and self.active(device) is None:
            waiting = [run for run in self.queued() if run.config.device == device]
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

    def _ended(self, run: Run) -> None:
        with self._lock:
            finished = [r.run_id for r in self._runs.values() if r.done.is_set()]
            for run_id in finished[:-KEPT]:
                del self._runs[run_id]
            device = run.config.device
            self._start_next(device)
            # A run that could not be resumed stays as it was: its joules are not to be told anew.
            over = run.snapshot().status is not RunStatus.INTERRUPTED
            if over and run.metered.meter.is_measured and self._at_rest(device):
                self._idling.start_reading(device, functools.partial(self._read_idle, run))

    def _at_rest(self, device: str) -> bool:
        """Return whether nothing that a device works for is to be expected just now."""
        if self._closing:
            return False
        if device == CPU_DEVICE:  # it works for all devices
            return not self._held and self.active() is None
        return device not in self._held and self.active(device) is None

    def _read_idle(self, run: Run, idle: Energy) -> None:
        """Note in a run what its board was read to take afterwards."""
        if run.metered.meter.add_idle_reading(idle):
            try:
                amend(self.store, run.run_id, run.snapshot().energy)
            except StoreError as error:  # its record has the short reading, and says so
                log.warning("the idle power after run %s is not stored: %s", run.run_id, error)

    def _drop_queue(self, device: str) -> None:
        for run in [r for r in self._queue if r.config.device == device]:
            self._queue.remove(run)
            run.cancel("replaced by another run")

    def active(self, device: str | None = None) -> Run | None:
        """Return the run that trains now, on ``device`` or on any."""
        with self._lock:
            for run in self._runs.values():
                on_device = device is None or run.config.device == device
                if on_device and run.started and not run.done.is_set():
                    return run
        return None

    def queued(self) -> list[Run]:
        """Return the runs that wait, in order."""
        with self._lock:
            return [run for run in self._queue if not run.done.is_set()]

    def elsewhere(self, device: str) -> list[str]:
        """Return the runs that train on ``device`` in other processes that use this store.

        They cannot be queued behind from here, and what they take of the device's time and
        power is not told apart from a run's own.

        Raises:
            StoreError: The store cannot be read.
        """
        training = self.store.training()
        with self._lock:
            own = set(self._runs)
        return [r.run_id for r in training if r.config.device == device and r.run_id not in own]

    def get(self, run_id: str) -> Run | StoredRun | None:
        """Return a run of this process, else a stored one, else ``None``.

        Raises:
            StoreError: The store cannot be read, or the run in it is damaged.
        """
        with self._lock:
            if run_id in self._runs:
                return self._runs[run_id]
            known = self._read.get(run_id)
        try:
            if known is not None:
                self.store.check(run_id)  # it may have been deleted since
                return known
            run = StoredRun(self.store, run_id)
        except UnknownRunError:
            return None
        with self._lock:  # a page asks again and again, and a long run takes long to read
            self._read = dict([*self._read.items(), (run_id, run)][-KEPT_READ:])
        return run

    def delete(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Move runs to the trash, each that may be moved.

        Returns:
            Why the others stay, by their ids.

        Raises:
            StoreError: The store cannot be written.
        """
        refused = Trash(self.store).put(run_ids)
        with self._lock:
            for run_id in set(run_ids) - set(refused):
                self._read.pop(run_id, None)
                if run_id in self._runs and self._runs[run_id].done.is_set():
                    del self._runs[run_id]
        return refused

    def stop_all(self, timeout: float = 5.0) -> None:
        """Stop every run and wait for each to be stored; for shutdown."""
        with self._lock:
            self._closing = True
            queue, self._queue = self._queue, []
            running = [run for run in self._runs.values() if run.started]
        for run in queue:
            run.cancel("the program ended before its turn came")
        for run in running:
            run.stop()
        self._idling.close()
        deadline = time.monotonic() + timeout
        for run in running:
            run.join(max(0.0, deadline - time.monotonic()))


_shared: Runs | None = None
_sharing = threading.Lock()


def shared_runs() -> Runs:
    """Return the one :class:`Runs` of this process, opening the store at first use.

    Raises:
        StoreError: The store cannot be used; the next call tries again.
    """
    global _shared
    with _sharing:
        if _shared is None:
            _shared = Runs(Store())
            _empty_trash(_shared.store)
        return _shared


def _empty_trash(store: Store) -> None:
    """Delete for good what was deleted long enough ago; that it fails is no reason not to start."""
    try:
        Trash(store).empty(older_than_s=KEPT_S)
    except StoreError as error:
        log.warning("what was deleted before is still there: %s", error)


def close_shared_runs() -> None:
    """Stop all runs and forget the store, so that the next call opens it anew."""
    global _shared
    with _sharing:
        if _shared is not None:
            _shared.stop_all()
            _shared.store.close()
        _shared = None


def active_run() -> Run | None:
    """Return the run that trains now in this process, none where the store cannot be used."""
    try:
        return shared_runs().active()
    except StoreError:
        return None
