"""Race between full training and an efficient policy: its plan, stages, scenes and recording.

A recorded race holds two earlier real runs, thinned, with date, machine and versions. The file is
strict JSON, and nothing in it is executed. It keeps the runs' own times, so that the race can be
played back in real time. Energy that was measured has the quality *recorded* when it is played
back.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effcore.config import ConfigError, dense_reference, resolve
from effcore.impact.reference_comparison import policies_besides_dense
from effcore.records import (
    EVAL_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    Energy,
    FloatArray,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    Snapshot,
    ViewEvent,
)
from effcore.records.settings import Settings, SettingValue
from effcore.runs.manager import RunManager
from effcore.store import Store
from effcore.store.bundle_import import energy_of_other_machine
from effcore.store.serialization import decode_record, encode_record

#: Views of a task that are shown, in this order: the reconstruction, and where it computes.
SHOWN_VIEWS: Final = ("reconstruction", "compute")
#: JPEG quality for live display and for a recording's file.
_LIVE_JPEG_QUALITY, _FILE_JPEG_QUALITY = 80, 60


class RaceScene(NamedTuple):
    """A run at one time.

    Attributes:
        snapshot: The run's state.
        pictures: Pictures by view name, as data URLs.
    """

    snapshot: Snapshot
    pictures: Mapping[str, str]


def current_scene(snapshot: Snapshot) -> RaceScene:
    """Return the present scene of a run."""
    return RaceScene(snapshot, view_pictures(snapshot.view))


def view_pictures(view: ViewEvent | None, width: int | None = None) -> dict[str, str]:
    """Return a view's pictures as data URLs.

    Args:
        view: The task's view.
        width: Largest width in pixels, for a file; by default the pictures keep their size.
    """
    items = view.items if view is not None else {}
    return {
        name: _jpeg_data_url(pixels, width)
        for name in SHOWN_VIEWS
        if isinstance(pixels := items.get(name), np.ndarray)
    }


def _jpeg_data_url(pixels: NDArray[np.uint8], width: int | None) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if width is not None and width < picture.width:
        picture = picture.resize((width, round(width * picture.height / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_LIVE_JPEG_QUALITY if width is None else _FILE_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


# Plan and stages --------------------------------------------------------------------------


#: Share of full training's computation that the efficient run may spend.
RACE_BUDGET: Final = 0.6
#: Knob values for the photograph, as in the README's comparison.
_PHOTO_KNOBS: Final = {"mass": 0.5, "revisit": 8}


class RacePlan(NamedTuple):
    """Two configurations of the same task, model, length and seed."""

    dense: RunConfig
    efficient: RunConfig


class RaceStage(StrEnum):
    """Stage of a race; the first four follow one another."""

    QUESTION = "question"
    DENSE = "dense"
    EFFICIENT = "efficient"
    RESULT = "result"
    BROKEN = "broken"


def plan_race(settings: Settings) -> RacePlan:
    """Return the race to run.

    Args:
        settings: Settings as in the Live page's address; by default the race is on the photograph.

    Raises:
        ConfigError: A setting is invalid, or the policy is dense.
    """
    defaults: dict[str, SettingValue] = {"selection": "confident-skip", "budget": RACE_BUDGET}
    if not {"task", "selection"} & set(settings):
        defaults |= _PHOTO_KNOBS
    efficient = resolve(defaults | dict(settings))
    if not policies_besides_dense(efficient):
        raise ConfigError(
            "selection",
            "selection='dense' skips nothing: choose another policy to race against full training",
        )
    return RacePlan(dense_reference(efficient), efficient)


def is_race_pair(dense: RunConfig, efficient: RunConfig) -> bool:
    """Return whether two runs differ only in policy and budget."""
    return dense != efficient and dense == dense_reference(efficient)


#: Progress of full training up to which the first stage, the question, is shown.
_QUESTION_FRAC: Final = 0.25


def race_stage(dense: Snapshot, efficient: Snapshot) -> RaceStage:
    """Return the stage of a race from its two runs."""
    for snapshot in (dense, efficient):
        if snapshot.status.is_final and snapshot.status is not RunStatus.FINISHED:
            return RaceStage.BROKEN
    if efficient.status is RunStatus.FINISHED and dense.status is RunStatus.FINISHED:
        return RaceStage.RESULT
    if dense.status is RunStatus.FINISHED:
        return RaceStage.EFFICIENT
    return RaceStage.DENSE if dense.progress >= _QUESTION_FRAC else RaceStage.QUESTION


# Recorded runs ----------------------------------------------------------------------------


FORMAT: Final = "effcore-race"
VERSION: Final = 1
_RUN_NAMES: Final = ("dense", "efficient")
_TABLES: Final = {"steps": STEP_COLUMNS, "evals": EVAL_COLUMNS, "power": POWER_COLUMNS}
_RECORDS: Final = {"config": RunConfig, "start": RunStart, "end": RunEnd, "energy": Energy}
#: Most rows of a stored table: more than a screen can resolve.
_KEPT_ROWS: Final = 240
#: A system load above this exceeds the recorded run's own: other programs were running.
BUSY_LOAD: Final = 2.0
_PICTURE_PREFIX: Final = "data:image/jpeg;base64,"


class RaceRecordingError(ValueError):
    """Raised for a recording that cannot be read; the message says why."""


class RecordedRaceRun(NamedTuple):
    """One recorded run.

    Attributes:
        snapshot: The finished run.
        pictures: Pictures with their times on the run clock, s, earliest first.
    """

    snapshot: Snapshot
    pictures: tuple[tuple[float, Mapping[str, str]], ...]

    @property
    def seconds(self) -> float:
        """Duration of the training, s."""
        assert self.snapshot.end is not None, "only finished runs are recorded"
        return self.snapshot.end.seconds

    def scene_at(self, seconds: float) -> RaceScene:
        """Return the run at a time of its clock, s; before 0 it is queued."""
        due_pictures = [pictures for drawn_s, pictures in self.pictures if drawn_s <= seconds]
        return RaceScene(
            _snapshot_until(self.snapshot, seconds), due_pictures[-1] if due_pictures else {}
        )


class RaceRecording(NamedTuple):
    """A recorded race.

    Attributes:
        dense: Full training, which ran first.
        efficient: The efficient run.
        circumstances: Date, machine and versions, by name.
    """

    dense: RecordedRaceRun
    efficient: RecordedRaceRun
    circumstances: Mapping[str, str | float]

    @property
    def seconds(self) -> float:
        """Duration of both trainings together, s."""
        return self.dense.seconds + self.efficient.seconds

    @property
    def is_machine_busy(self) -> bool:
        """Whether other programs were running on the machine, so that times are unreliable."""
        loads = [self.circumstances.get(f"load_at_{end}", 0.0) for end in ("start", "end")]
        return any(isinstance(load, float) and load > BUSY_LOAD for load in loads)

    def scenes_at(self, seconds: float) -> tuple[RaceScene, RaceScene]:
        """Return both runs at a time after the start of the race, s."""
        return self.dense.scene_at(seconds), self.efficient.scene_at(seconds - self.dense.seconds)


def _snapshot_until(snapshot: Snapshot, seconds: float) -> Snapshot:
    """Return a finished run as it was at a time of its clock, s."""
    if snapshot.end is not None and seconds >= snapshot.end.seconds:
        return snapshot
    tables = {
        name: getattr(snapshot, name)[
            :, getattr(snapshot, name)[columns.index("seconds")] <= seconds
        ]
        for name, columns in _TABLES.items()
    }
    spent, start = tables["steps"][STEP_COLUMNS.index("flops")], snapshot.start
    total_flops = (start.flops_end or start.flops_dense) if start else math.inf
    return dataclasses.replace(
        snapshot,
        status=RunStatus.RUNNING if seconds >= 0 else RunStatus.QUEUED,
        end=None,
        progress=min(float(spent[-1]) / total_flops, 1.0) if spent.size else 0.0,
        energy=_energy_until(snapshot.energy, tables["power"]),
        **tables,
    )


def _energy_until(energy: Energy, power: FloatArray) -> Energy:
    """Return the energy up to the last sample, with the quality of the run's energy."""
    if not power.shape[1]:
        return dataclasses.replace(energy, joules=None, lo=None, hi=None, seconds=0.0)
    last = dict(zip(POWER_COLUMNS, power[:, -1].tolist(), strict=True))
    joules, lo, hi = (
        _finite_or_none(last[name]) for name in ("energy_j", "energy_lo_j", "energy_hi_j")
    )
    return dataclasses.replace(energy, joules=joules, lo=lo, hi=hi, seconds=last["seconds"])


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


# The file ---------------------------------------------------------------------------------


def recording_to_json(recording: RaceRecording) -> str:
    """Return the JSON text of a recording's file."""
    runs = {name: _run_to_dict(getattr(recording, name)) for name in _RUN_NAMES}
    data = {"format": FORMAT, "version": VERSION}
    data |= {"circumstances": dict(recording.circumstances), "runs": runs}
    return json.dumps(data, allow_nan=False) + "\n"


def _run_to_dict(recorded_run: RecordedRaceRun) -> dict[str, Any]:
    snapshot = recorded_run.snapshot
    data: dict[str, Any] = {"run_id": snapshot.run_id, "created_unix": snapshot.created_unix}
    data |= {name: json.loads(encode_record(getattr(snapshot, name))) for name in _RECORDS}
    data |= {name: _thin_table(getattr(snapshot, name)) for name in _TABLES}
    return data | {
        "pictures": [[drawn_s, dict(pictures)] for drawn_s, pictures in recorded_run.pictures]
    }


def _thin_table(table: FloatArray) -> list[list[float | None]]:
    """Return evenly spaced rows of a table, including the last, to seven digits."""
    rows = np.unique(
        np.linspace(0, table.shape[1] - 1, min(table.shape[1], _KEPT_ROWS)).astype(int)
    )
    return [[_round_value(value) for value in column] for column in table[:, rows].tolist()]


def _round_value(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def read_race_recording(path: Path) -> RaceRecording:
    """Return the recording in a file.

    Raises:
        RaceRecordingError: The file is missing or not a valid recording.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is {data['format']!r}, version {data['version']!r}")
        recorded_runs = [_parse_run(data["runs"][name]) for name in _RUN_NAMES]
        return RaceRecording(
            recorded_runs[0], recorded_runs[1], _parse_circumstances(data["circumstances"])
        )
    except FileNotFoundError as error:
        raise RaceRecordingError(
            f"there is no recording {path.name}: it is part of a checkout, in the folder "
            f"{path.parent.name}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RaceRecordingError(
            f"{path.name} is not a valid race recording ({error}): restore it from the project, "
            "or record a new one"
        ) from error


def _parse_circumstances(data: Mapping[str, Any]) -> dict[str, str | float]:
    if not all(isinstance(value, str | float | int) for value in data.values()):
        raise ValueError("circumstances contain values other than texts and numbers")
    return dict(data)


def _parse_run(data: Mapping[str, Any]) -> RecordedRaceRun:
    records: dict[str, Any] = {
        name: decode_record(cls, json.dumps(data[name])) for name, cls in _RECORDS.items()
    }
    tables: dict[str, Any] = {name: _parse_table(data[name], c) for name, c in _TABLES.items()}
    records["energy"] = energy_of_other_machine(records["energy"])
    records["end"] = records["end"].with_flops_full(records["start"])
    snapshot = Snapshot(
        run_id=str(data["run_id"]),
        status=records["end"].status,
        created_unix=float(data["created_unix"]),
        progress=1.0,
        changes=(),
        exploratory=False,
        knobs=records["config"].knobs,
        **records,
        **tables,
    )
    return RecordedRaceRun(snapshot, tuple(_parse_picture(picture) for picture in data["pictures"]))


def _parse_table(columns: list[list[float | None]], names: tuple[str, ...]) -> FloatArray:
    table = np.array(columns, dtype=np.float64)  # NaN is null in the file
    if table.ndim != 2 or table.shape[0] != len(names):
        raise ValueError(f"a table has shape {table.shape}: expected {len(names)} columns")
    return table


def _parse_picture(pair: Any) -> tuple[float, dict[str, str]]:
    drawn_s, pictures = pair
    if not all(str(address).startswith(_PICTURE_PREFIX) for address in pictures.values()):
        raise ValueError("a picture is not a JPEG within the file")
    return float(drawn_s), {str(name): str(address) for name, address in pictures.items()}


#: Checks for a new picture per second.
_POLL_HZ: Final = 4.0
#: Most pictures per run, and their width in pixels.
_KEPT_PICTURES, _PICTURE_WIDTH = 12, 240
_TimedViews = list[tuple[float, ViewEvent]]


def record_race(
    race: RacePlan, circumstances: Mapping[str, str | float], report: Callable[[str], None]
) -> RaceRecording:
    """Train both runs of a race and return the recording, with few pictures per run.

    Args:
        race: The two configurations.
        circumstances: Date, machine and versions, which are stored with the recording.
        report: Called with a text before each run.

    Raises:
        RuntimeError: A run did not finish.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = RunManager(Store(Path(folder)))
        try:
            recorded_runs = [_record_run(runs, config, report) for config in race]
        finally:
            runs.stop_all()
            runs.store.close()
    return RaceRecording(recorded_runs[0], recorded_runs[1], dict(circumstances))


def _record_run(
    runs: RunManager, config: RunConfig, report: Callable[[str], None]
) -> RecordedRaceRun:
    report(f"training {config.task} with {config.selection}")
    run = runs.start(config)[-1]
    views: _TimedViews = []
    while not run.join(1 / _POLL_HZ):
        snapshot = run.snapshot()
        _append_new_view(
            views,
            snapshot.view,
            float(snapshot.column("seconds")[-1]) if snapshot.steps_done else 0.0,
        )
    snapshot = run.snapshot()
    if snapshot.status is not RunStatus.FINISHED or snapshot.end is None:
        raise RuntimeError(f"the run {snapshot.status.value}: {snapshot.reason}")
    _append_new_view(views, snapshot.view, snapshot.end.seconds)
    return RecordedRaceRun(
        snapshot,
        tuple(
            (seconds, view_pictures(view, _PICTURE_WIDTH)) for seconds, view in _thin_views(views)
        ),
    )


def _append_new_view(views: _TimedViews, view: ViewEvent | None, seconds: float) -> None:
    if view is not None and (not views or views[-1][1].step != view.step):
        views.append((round(seconds, 3), view))


def _thin_views(views: _TimedViews) -> _TimedViews:
    """Return evenly spaced views, including the first and the last."""
    if len(views) <= _KEPT_PICTURES:
        return views
    step = (len(views) - 1) / (_KEPT_PICTURES - 1)
    return [views[round(step * index)] for index in range(_KEPT_PICTURES)]
