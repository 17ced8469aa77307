"""The store of the benches' runs and timings, so that an interrupted bench can go on.

Runs are trained, stored and resumed as those of studies are; timings are lines of a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from effcore.bench.command_line import ProgressSink, with_eta
from effcore.home import default_home
from effcore.records import EVAL_COLUMNS, Energy, RunConfig, RunEnd, RunStatus, Snapshot
from effcore.store import Store, StoreError
from effcore.store.serialization import config_to_dict
from effcore.store.study_table import BENCH_KEY_PREFIX, StudyTable
from effcore.studies.comparison import CompletedRuns, complete_runs
from effcore.studies.executor import StudyRun, given_up_reason, study_lock, train_runs
from effcore.studies.plan import StudyPlan, planned_runs, variants_of
from effcore.studies.run_origin import code_version, load_origins, run_origin

# Timings ----------------------------------------------------------------------------------


class Journal:
    """Records by key in an append-only file, one JSON line each.

    A line that a kill cut short is ignored, so its measurement is repeated.

    Args:
        path: The file; :meth:`create_file` creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = _read_journal(path)
        self._records = dict(_parse_records(text))
        self._last_line_is_cut = bool(text) and not text.endswith("\n")

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of a key, ``None`` if there is none."""
        return self._records.get(key)

    def create_file(self) -> None:
        """Create the file; call it before measuring anything that has to be kept.

        Raises:
            ValueError: The file cannot be written; the message has a remedy.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("a", encoding="utf-8").close()
        except OSError as error:
            raise _unusable_journal(self._path, f"cannot be written ({error.strerror})") from None

    def append(self, key: str, record: dict[str, Any]) -> None:
        """Write a record at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if self._last_line_is_cut else "") + json.dumps([key, record]) + "\n")
        self._last_line_is_cut = False
        self._records[key] = record


def _read_journal(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        why = "is no text"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    raise _unusable_journal(path, why)


def _unusable_journal(path: Path, why: str) -> ValueError:
    return ValueError(f"journal {path.name!r} {why}: name another folder with --journal")


def _parse_records(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of all complete lines."""
    for line in text.splitlines():
        try:
            key, record = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(key, str) and isinstance(record, dict):
            yield key, record


# Runs -------------------------------------------------------------------------------------


#: One study holds all runs of a store, so that commands share what they trained.
_STUDY_KEY = f"{BENCH_KEY_PREFIX}runs"
_TIMINGS_FILE = "timings.jsonl"


class KeptRun(NamedTuple):
    """A run that a bench store holds.

    Attributes:
        snapshot: The stored run.
        origin: The code, versions, processor and data that trained it.
    """

    snapshot: Snapshot
    origin: Mapping[str, str]


@dataclass(frozen=True)
class BenchRun:
    """The result of a run.

    Attributes:
        validation: Last metric on the validation split; ``None`` where the run broke down.
        metric: Metric on the test split, likewise.
        parameters_sha256: Digest of the final parameters, likewise.
        end: The end of the run.
        energy: Its energy.
        reason: Why it broke down; empty where it finished.
    """

    validation: float | None
    metric: float | None
    parameters_sha256: str | None
    end: RunEnd
    energy: Energy
    reason: str


class BenchStore:
    """Runs of benches by configuration, code, PyTorch version, processor and data.

    Args:
        home: Its folder, which the first run creates.
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
        by_place = {_place(config): config for config in configs}
        return [config for place, config in by_place.items() if place not in known]

    def train(self, configs: Sequence[RunConfig], jobs: int, say: ProgressSink) -> None:
        """Train the missing runs.

        Args:
            configs: The runs.
            jobs: Runs at a time, each in a process of its own; one where energy is measured.
            say: Takes progress messages, with the time left.

        Raises:
            ValueError: The store cannot be written.
            StoreError: A run could not be stored, or the machine failed it.
            UncountedOperationError: A run has an operation whose FLOPs are not counted.
        """
        if not self.missing(configs):
            return
        with study_lock(self._store, self._study_id):  # another process may train the same runs
            self._train_missing(self.missing(configs), jobs, say)

    def _train_missing(self, missing: Sequence[RunConfig], jobs: int, say: ProgressSink) -> None:
        say_with_eta, study_id = with_eta(say, len(missing)), self._study_id
        runs = [StudyRun(_place(config)[0], config.seed, config) for config in missing]
        trained = train_runs(self._store, study_id, runs, jobs, code_version())
        for done, run in enumerate(trained, start=1):
            policies = f"{run.config.selection}+{run.config.update}+{run.config.intensity}"
            say_with_eta(f"{done}/{len(missing)} {run.config.task} {policies} seed {run.seed}")

    def load(self, configs: Sequence[RunConfig]) -> list[Snapshot]:
        """Return the runs in order.

        Raises:
            StoreError: The store cannot be read, or lacks one of them.
        """
        known, places = self._known_runs(), [_place(config) for config in configs]
        if missing := [place for place in places if place not in known]:
            raise StoreError(f"{len(missing)} of {len(places)} runs are missing: start again")
        return [self._store.load_snapshot(known[place]) for place in places]

    def results(self, configs: Sequence[RunConfig], jobs: int, say: ProgressSink) -> list[BenchRun]:
        """Train the missing runs, and return the results of all in order; see :meth:`train`."""
        self.train(configs, jobs, say)
        return [bench_run(snapshot) for snapshot in self.load(configs)]

    def complete(
        self, plans: Sequence[StudyPlan], jobs: int, say: ProgressSink
    ) -> list[tuple[StudyPlan, CompletedRuns]]:
        """Train the missing runs of studies, and return each plan with its runs.

        See :meth:`train`.
        """
        studies = [(plan, list(planned_runs(plan))) for plan in plans]
        self.train([run.config for _, runs in studies for run in runs], jobs, say)
        return [(plan, self._complete_study(plan, runs)) for plan, runs in studies]

    def _complete_study(self, plan: StudyPlan, runs: Sequence[StudyRun]) -> CompletedRuns:
        snapshots: dict[str, dict[int, Snapshot]]
        snapshots = {variant.name: {} for variant in variants_of(plan)}
        for run, snapshot in zip(runs, self.load([run.config for run in runs]), strict=True):
            snapshots[run.variant][run.seed] = snapshot
        return complete_runs(plan, snapshots)

    def kept_runs(self) -> Iterator[KeptRun]:
        """Yield every stored run with its origin, in the order of training."""
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
        return StudyTable(self._store).create_or_replan_study(_STUDY_KEY, lambda _: "{}").study_id

    def _known_runs(self) -> dict[tuple[str, int], str]:
        ended = StudyTable(self._store).ended_runs(self._study_id, include_stopped=True)
        return {place: run.run_id for place, run in ended.items()}


def open_bench_store(folder: str | None) -> BenchStore:
    """Return the store in a folder, or the benches' own store where none is named.

    Raises:
        ValueError: The folder is a file.
    """
    return BenchStore(Path(folder) if folder else default_home() / "bench" / "store")


def _place(config: RunConfig) -> tuple[str, int]:
    """Return a run's name and seed in the store; they are equal for equal runs and origins."""
    identity = [config_to_dict(replace(config, seed=0)), run_origin(config)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return f"{config.selection}+{config.update}+{config.intensity} {digest}", config.seed


def bench_run(snapshot: Snapshot) -> BenchRun:
    """Return the result of a stored run."""
    end = snapshot.end
    assert end is not None, "a stored run of a bench has ended"
    given_up = snapshot.status is RunStatus.STOPPED
    finished = end.metric is not None and bool(np.isfinite(end.metric)) and not given_up
    metric_row = EVAL_COLUMNS.index("metric")
    return BenchRun(
        validation=float(snapshot.evals[metric_row, -1]) if finished else None,
        metric=end.metric if finished else None,
        parameters_sha256=end.parameters_sha256 if finished else None,
        end=end,
        energy=snapshot.energy,
        reason=given_up_reason() if given_up else snapshot.reason,
    )
