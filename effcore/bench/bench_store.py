"""The store that benches keep their runs in: trained, stored and gone on with as studies are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effcore.bench.eta import ProgressSink, with_eta
from effcore.bench.journal import Journal
from effcore.home import default_home
from effcore.records import EVAL_COLUMNS, RunConfig, RunStatus, Snapshot
from effcore.runs.summary import energy_record
from effcore.store import Store, StoreError
from effcore.store.config_serialization import config_to_dict
from effcore.store.study_table import BENCH_KEY_PREFIX, StudyTable
from effcore.studies.executor import StudyRun, given_up_reason, train_runs
from effcore.studies.run_origin import code_version, load_origins, run_origin

#: One study holds all runs of a store, so that a command finds what another has trained.
_STUDY_KEY = f"{BENCH_KEY_PREFIX}runs"
_TIMINGS_FILE = "timings.jsonl"


class KeptRun(NamedTuple):
    """A run that a bench store holds.

    Attributes:
        snapshot: What is stored of it.
        origin: The code, versions, processor and data that it was trained by.
    """

    snapshot: Snapshot
    origin: Mapping[str, str]


class BenchStore:
    """Runs of benches, found again by configuration, code, PyTorch, processor and data.

    Args:
        home: Its folder; made when the first run is trained.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        if home.exists() and not home.is_dir():
            raise ValueError(
                f"journal {home.name!r} is a file: runs are kept in a store now, and results in "
                "files of earlier versions are not read; name another folder with --journal"
            )

    @cached_property
    def timings(self) -> Journal:
        """Journal of timings, which are not runs of the store."""
        return Journal(self.home / _TIMINGS_FILE)

    def missing(self, configs: Sequence[RunConfig]) -> list[RunConfig]:
        """Return the runs that the store does not hold, each once."""
        known = self._known_runs() if self.home.exists() else {}
        wanted = {_place(config): config for config in configs}
        return [config for place, config in wanted.items() if place not in known]

    def train(self, configs: Sequence[RunConfig], jobs: int, say: ProgressSink) -> None:
        """Train what is missing.

        Args:
            configs: The runs.
            jobs: Runs at a time, each in a process of its own; joules need one at a time.
            say: Takes progress messages, with the time left.

        Raises:
            ValueError: The store cannot be written.
            StoreError: A run could not be stored, or the machine failed it.
            UncountedOperationError: A run has an operation that nobody accounts for.
        """
        if not (missing := self.missing(configs)):
            return
        tell, study_id = with_eta(say, len(missing)), self._study_id
        runs = [StudyRun(_place(config)[0], config.seed, config) for config in missing]
        trained = train_runs(self._store, study_id, runs, jobs, code_version())
        for done, run in enumerate(trained, start=1):
            policies = f"{run.config.selection}+{run.config.update}+{run.config.intensity}"
            tell(f"{done}/{len(missing)} {run.config.task} {policies} seed {run.seed}")

    def load(self, configs: Sequence[RunConfig]) -> list[Snapshot]:
        """Return the runs in order.

        Raises:
            StoreError: The store cannot be read, or lacks one of them.
        """
        known, places = self._known_runs(), [_place(config) for config in configs]
        if lost := [place for place in places if place not in known]:
            raise StoreError(f"{len(lost)} of {len(places)} runs are missing: start again")
        return [self._store.load_snapshot(known[place]) for place in places]

    def kept_runs(self) -> Iterator[KeptRun]:
        """Yield every run that is there, with its origin, in the order they were trained."""
        if not self.home.exists():
            return
        ids = sorted(self._known_runs().values())
        origins = load_origins(self._store, ids)
        for run_id in ids:
            yield KeptRun(self._store.load_snapshot(run_id), origins.get(run_id, {}))

    @cached_property
    def _store(self) -> Store:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            return Store(self.home)
        except (OSError, StoreError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ValueError(
                f"journal {self.home.name!r} cannot be written ({why}): name another folder with "
                "--journal"
            ) from None

    @cached_property
    def _study_id(self) -> str:
        return StudyTable(self._store).open_or_create(_STUDY_KEY, lambda _: "{}").study_id

    def _known_runs(self) -> dict[tuple[str, int], str]:
        ended = StudyTable(self._store).ended_runs(self._study_id, include_stopped=True)
        return {place: run.run_id for place, run in ended.items()}


def open_bench_store(folder: str | None) -> BenchStore:
    """Return the store in a folder; the benches' own where none is named.

    Raises:
        ValueError: It is a file.
    """
    return BenchStore(Path(folder) if folder else default_home() / "bench" / "store")


def _place(config: RunConfig) -> tuple[str, int]:
    """Return under which name and seed a run is kept; equal for equal runs of the same origin."""
    own = [config_to_dict(replace(config, seed=0)), run_origin(config)]
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16]
    return f"{config.selection}+{config.update}+{config.intensity} {digest}", config.seed


def run_result(snapshot: Snapshot) -> dict[str, Any]:
    """Return what came of a run.

    Returns:
        ``validation`` and ``metric`` (test), ``None`` where the run broke down, with
        ``flops``, ``flops_full``, ``skipped_compute_frac``, ``seconds``, ``energy``,
        ``parameters_sha256`` and ``reason``.
    """
    end = snapshot.end
    assert end is not None, "a run that is kept has ended"
    given_up = snapshot.status is RunStatus.STOPPED
    known = end.metric is not None and np.isfinite(end.metric) and not given_up
    return {
        "validation": float(snapshot.evals[EVAL_COLUMNS.index("metric"), -1]) if known else None,
        "metric": end.metric if known else None,
        "flops": end.flops_spent,
        "flops_full": end.flops_full,
        "skipped_compute_frac": end.skipped_compute_frac,
        "seconds": end.seconds,
        "energy": energy_record(snapshot.energy),
        "parameters_sha256": end.parameters_sha256 if known else None,
        "reason": given_up_reason() if given_up else snapshot.reason,
    }
