"""A recorded race: two real runs of another time, thinned, with where and when they ran.

One file of strict JSON; nothing in it is ever run. Its times are the runs' own, so that it can be
played back as it was. Joules that were measured are *recorded* wherever they are shown again.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from effcore.events import (
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
)
from effcore.store.codec import decode, encode
from effcore.store.imports import imported
from effcore.tour.scene import Scene

FORMAT: Final = "effcore-race"
VERSION: Final = 1
_LANES: Final = ("dense", "efficient")
_TABLES: Final = {"steps": STEP_COLUMNS, "evals": EVAL_COLUMNS, "power": POWER_COLUMNS}
_RECORDS: Final = {"config": RunConfig, "start": RunStart, "end": RunEnd, "energy": Energy}
#: Rows of a table that are kept: more than a screen tells apart.
_ROWS: Final = 240
#: A load above this is more than the recorded run itself: others computed, too.
BUSY: Final = 2.0
_PICTURE: Final = "data:image/jpeg;base64,"


class RecordingError(ValueError):
    """A recording that cannot be played; the message says why."""


class Take(NamedTuple):
    """One recorded run.

    Attributes:
        look: The whole of it.
        pictures: What it had drawn, by the seconds of its clock, earliest first.
    """

    look: Snapshot
    pictures: tuple[tuple[float, Mapping[str, str]], ...]

    @property
    def seconds(self) -> float:
        """How long it trained."""
        assert self.look.end is not None, "only what has ended is recorded"
        return self.look.end.seconds

    def at(self, seconds: float) -> Scene:
        """Return the run as it was then; before its start it waits."""
        due = [pictures for at, pictures in self.pictures if at <= seconds]
        return Scene(_until(self.look, seconds), due[-1] if due else {})


class Recording(NamedTuple):
    """A recorded race.

    Attributes:
        dense: The dense run, which came first.
        efficient: The efficient one.
        circumstances: Date, machine and versions, by name.
    """

    dense: Take
    efficient: Take
    circumstances: Mapping[str, str | float]

    @property
    def seconds(self) -> float:
        """How long both trained together."""
        return self.dense.seconds + self.efficient.seconds

    @property
    def busy(self) -> bool:
        """Whether other programs computed on the machine meanwhile, so that seconds say little."""
        loads = [self.circumstances.get(f"load_at_{end}", 0.0) for end in ("start", "end")]
        return any(isinstance(load, float) and load > BUSY for load in loads)

    def at(self, seconds: float) -> tuple[Scene, Scene]:
        """Return both runs so many seconds after the start of the race."""
        return self.dense.at(seconds), self.efficient.at(seconds - self.dense.seconds)


def _until(look: Snapshot, seconds: float) -> Snapshot:
    """Return a finished run as it was at a time of its clock."""
    if look.end is not None and seconds >= look.end.seconds:
        return look
    tables = {
        name: getattr(look, name)[:, getattr(look, name)[columns.index("seconds")] <= seconds]
        for name, columns in _TABLES.items()
    }
    spent, start = tables["steps"][STEP_COLUMNS.index("flops")], look.start
    whole = (start.flops_end or start.flops_dense) if start else math.inf
    return dataclasses.replace(
        look,
        status=RunStatus.RUNNING if seconds >= 0 else RunStatus.QUEUED,
        end=None,
        progress=min(float(spent[-1]) / whole, 1.0) if spent.size else 0.0,
        energy=_energy_until(look.energy, tables["power"]),
        **tables,
    )


def _energy_until(energy: Energy, power: FloatArray) -> Energy:
    """Return the joules up to the last sample, known as the whole is known."""
    if not power.shape[1]:
        return dataclasses.replace(energy, joules=None, lo=None, hi=None, seconds=0.0)
    last = dict(zip(POWER_COLUMNS, power[:, -1].tolist(), strict=True))
    joules, lo, hi = (_known(last[name]) for name in ("energy_j", "energy_lo_j", "energy_hi_j"))
    return dataclasses.replace(energy, joules=joules, lo=lo, hi=hi, seconds=last["seconds"])


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# The file ---------------------------------------------------------------------------------


def to_text(recording: Recording) -> str:
    """Return a recording as the text of its file."""
    runs = {name: _take_to_dict(getattr(recording, name)) for name in _LANES}
    whole = {"format": FORMAT, "version": VERSION}
    whole |= {"circumstances": dict(recording.circumstances), "runs": runs}
    return json.dumps(whole, allow_nan=False) + "\n"


def _take_to_dict(take: Take) -> dict[str, Any]:
    look = take.look
    data: dict[str, Any] = {"run_id": look.run_id, "created_unix": look.created_unix}
    data |= {name: json.loads(encode(getattr(look, name))) for name in _RECORDS}
    data |= {name: _thin(getattr(look, name)) for name in _TABLES}
    return data | {"pictures": [[at, dict(pictures)] for at, pictures in take.pictures]}


def _thin(table: FloatArray) -> list[list[float | None]]:
    """Return evenly spaced rows of a table, the last among them, to seven digits."""
    rows = np.unique(np.linspace(0, table.shape[1] - 1, min(table.shape[1], _ROWS)).astype(int))
    return [[_short(value) for value in column] for column in table[:, rows].tolist()]


def _short(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def read_recording(path: Path) -> Recording:
    """Return the recording in a file.

    Raises:
        RecordingError: It is not there, or not as it was written.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is {data['format']!r}, version {data['version']!r}")
        takes = [_take(data["runs"][name]) for name in _LANES]
        return Recording(takes[0], takes[1], _circumstances(data["circumstances"]))
    except FileNotFoundError as error:
        raise RecordingError(
            f"there is no recording {path.name}: it comes with a checkout, in its folder "
            f"{path.parent.name}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RecordingError(
            f"{path.name} is not a race as it was recorded ({error}): take it anew from the "
            "project, or record one"
        ) from error


def _circumstances(data: Mapping[str, Any]) -> dict[str, str | float]:
    if not all(isinstance(value, str | float | int) for value in data.values()):
        raise ValueError("circumstances hold more than words and numbers")
    return dict(data)


def _take(data: Mapping[str, Any]) -> Take:
    records: dict[str, Any] = {
        name: decode(cls, json.dumps(data[name])) for name, cls in _RECORDS.items()
    }
    tables: dict[str, Any] = {name: _table(data[name], c) for name, c in _TABLES.items()}
    records["energy"] = imported(records["energy"])
    look = Snapshot(
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
    return Take(look, tuple(_picture(each) for each in data["pictures"]))


def _table(columns: list[list[float | None]], names: tuple[str, ...]) -> FloatArray:
    table = np.array(columns, dtype=np.float64)  # what is no number is null in the file
    if table.ndim != 2 or table.shape[0] != len(names):
        raise ValueError(f"a table of shape {table.shape} where {len(names)} columns belong")
    return table


def _picture(pair: Any) -> tuple[float, dict[str, str]]:
    at, pictures = pair
    if not all(str(address).startswith(_PICTURE) for address in pictures.values()):
        raise ValueError("a picture is no JPEG within the file")
    return float(at), {str(name): str(address) for name, address in pictures.items()}
