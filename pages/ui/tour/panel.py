"""The tour's panel: a race as it stands, drawn anew in place each time the page tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st

from effcore.events import EVAL_COLUMNS, RunStatus, Snapshot
from effcore.summary import metric_text
from effcore.tasks.base import TASKS, Metric
from effcore.tour.bars import Bar, rows
from effcore.tour.race import Stage, stage_of
from effcore.tour.scene import SHOWN, Scene
from effcore.tour.words import caption, ending, means_of
from pages.ui.assets import text_of

_HERE = Path(__file__).parent

_panel = st.components.v2.component(
    "effcore_tour",
    html=text_of(_HERE / "panel.html"),
    css=text_of(_HERE / "panel.css"),
    js=text_of(_HERE / "panel.js"),
    isolate_styles=False,  # the page's theme is that of the panel
)

#: Share of the dense run after which joules that are not there will not come.
_EARLY: Final = 0.1
_STEPS: Final = {
    Stage.QUESTION: "The question",
    Stage.DENSE: "The usual way",
    Stage.EFFICIENT: "The efficient way",
    Stage.RESULT: "What came of it",
}
_NAMES: Final = {"dense": "The usual way", "efficient": "The efficient way"}
_WHO: Final = {"dense": "Usual", "efficient": "Efficient"}
_STATUS: Final = {RunStatus.QUEUED: "waits", RunStatus.RUNNING: "training"}
_PICTURES: Final = {
    "dense": {
        "reconstruction": "What it has drawn so far",
        "compute": "Where it works: everywhere alike",
    },
    "efficient": {
        "reconstruction": "What it has drawn so far",
        "compute": "Where it works: the brighter, the more often",
    },
}
_WAITS: Final = "It begins when the other has ended, so that time and energy are its own."
_NEVER: Final = "It never began: there was nothing left to race against."
_ENDING: Final = {"saved": "What was saved", "cost": "What it cost", "sure": "How sure that is"}


def tour_panel(dense: Scene, efficient: Scene, recorded: str = "", key: str = "tour") -> None:
    """Draw a race as it stands.

    Args:
        dense: The dense run.
        efficient: The efficient one.
        recorded: What must be said of a recording; nothing of a race that runs here.
        key: Identity of the element; the same on every script run.
    """
    _panel(key=key, data=told(dense, efficient, recorded))


def told(dense: Scene, efficient: Scene, recorded: str = "") -> dict[str, Any]:
    """Return all that the panel shows, ready to show."""
    stage = stage_of(dense.look, efficient.look)
    lanes = {"dense": dense, "efficient": efficient}
    drawn = rows(dense.look, efficient.look)
    energy = any(row.name == "Energy" for row in drawn)
    return {
        "stage": stage.value,
        "recorded": recorded,
        "steps": _steps(stage, dense.look),
        "caption": caption(stage, dense.look, efficient.look),
        "ending": _ending(dense.look, efficient.look) if stage is Stage.RESULT else None,
        "lanes": [_lane(name, scene) for name, scene in lanes.items()],
        "rows": [
            {"name": row.name, "note": row.note, "bars": [_bar(n, getattr(row, n)) for n in lanes]}
            for row in drawn
        ],
        "note": "" if energy or dense.look.progress < _EARLY else _no_energy(dense.look),
    }


def _steps(stage: Stage, dense: Snapshot) -> list[dict[str, str]]:
    order = list(_STEPS)
    if stage is Stage.BROKEN:  # it ended in one of the two runs
        stage = Stage.EFFICIENT if dense.status is RunStatus.FINISHED else Stage.DENSE
    now = order.index(stage)
    states = ["done" if place < now else "now" if place == now else "" for place in range(4)]
    return [
        {"title": _STEPS[each], "state": state} for each, state in zip(order, states, strict=True)
    ]


def _lane(name: str, scene: Scene) -> dict[str, Any]:
    look = scene.look
    metric, value = TASKS.get(look.config.task).metric, _metric(look)
    return {
        "id": name,
        "name": _NAMES[name],
        "status": _STATUS.get(look.status, look.status.value),
        "value": "" if value is None else metric_text(metric, value),
        "meaning": _meaning(look, metric),
        "pictures": [
            {"name": each, "url": scene.pictures[each], "caption": _PICTURES[name][each]}
            for each in SHOWN
            if each in scene.pictures
        ],
    }


def _meaning(look: Snapshot, metric: Metric) -> str:
    """Return what the number of a lane says, or why there is none."""
    if look.status is RunStatus.QUEUED:
        return _WAITS
    if look.status.final and look.start is None:
        return _NEVER
    return f"{metric.label}: {means_of(metric)}"


def _metric(look: Snapshot) -> float | None:
    """Return what a run came to, or what it was last evaluated at."""
    if look.end is not None:
        return look.end.metric
    return float(look.evals[EVAL_COLUMNS.index("metric"), -1]) if look.evals.shape[1] else None


def _bar(lane: str, bar: Bar) -> dict[str, Any]:
    return {"lane": lane, "who": _WHO[lane], **bar._asdict()}


def _ending(dense: Snapshot, efficient: Snapshot) -> list[Mapping[str, Any]]:
    found = ending(dense, efficient)._asdict()
    return [{"title": title, "said": found[name]} for name, title in _ENDING.items()]


def _no_energy(dense: Snapshot) -> str:
    why = dense.energy.notes[0] if dense.energy.notes else dense.energy.source
    return f"No bar of energy: it is not known here. {why}"
