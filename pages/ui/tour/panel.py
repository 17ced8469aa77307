"""The tour's panel: a race as it stands, drawn anew in place each time the page tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st

from effcore.insight.race_bars import RaceBar, race_rows
from effcore.insight.race_narration import metric_meaning, race_ending, stage_caption
from effcore.insight.race_plan import RaceStage, race_stage
from effcore.insight.race_scene import SHOWN_VIEWS, RaceScene
from effcore.records import EVAL_COLUMNS, RunStatus, Snapshot
from effcore.runs.summary import metric_text
from effcore.tasks.base import TASKS, Metric
from pages.ui.assets import read_texts

_HERE = Path(__file__).parent

_panel_component = st.components.v2.component(
    "effcore_tour",
    html=read_texts(_HERE / "panel.html"),
    css=read_texts(_HERE / "panel.css"),
    js=read_texts(_HERE / "panel.js"),
    isolate_styles=False,  # the page's theme is that of the panel
)

#: Share of the dense run after which joules that are not there will not come.
_NO_ENERGY_AFTER: Final = 0.1
_STEP_TITLES: Final = {
    RaceStage.QUESTION: "The question",
    RaceStage.DENSE: "The usual way",
    RaceStage.EFFICIENT: "The efficient way",
    RaceStage.RESULT: "What came of it",
}
_LANE_TITLES: Final = {"dense": "The usual way", "efficient": "The efficient way"}
_BAR_LABELS: Final = {"dense": "Usual", "efficient": "Efficient"}
_STATUS_TEXTS: Final = {RunStatus.QUEUED: "waits", RunStatus.RUNNING: "training"}
_PICTURE_CAPTIONS: Final = {
    "dense": {
        "reconstruction": "What it has drawn so far",
        "compute": "Where it works: everywhere alike",
    },
    "efficient": {
        "reconstruction": "What it has drawn so far",
        "compute": "Where it works: the brighter, the more often",
    },
}
_WAITING_TEXT: Final = "It begins when the other has ended, so that time and energy are its own."
_NEVER_STARTED_TEXT: Final = "It never began: there was nothing left to race against."
_ENDING_TITLES: Final = {
    "saved": "What was saved",
    "cost": "What it cost",
    "sure": "How sure that is",
}


def draw_tour_panel(
    dense: RaceScene, efficient: RaceScene, recording_notice: str = "", key: str = "tour"
) -> None:
    """Draw a race as it stands.

    Args:
        dense: The dense run.
        efficient: The efficient one.
        recording_notice: What must be said of a recording; nothing of a race that runs here.
        key: Identity of the element; the same on every script run.
    """
    _panel_component(key=key, data=panel_data(dense, efficient, recording_notice))


def panel_data(
    dense: RaceScene, efficient: RaceScene, recording_notice: str = ""
) -> dict[str, Any]:
    """Return all that the panel shows, ready to show."""
    stage = race_stage(dense.snapshot, efficient.snapshot)
    lanes = {"dense": dense, "efficient": efficient}
    drawn = race_rows(dense.snapshot, efficient.snapshot)
    energy = any(row.name == "Energy" for row in drawn)
    return {
        "stage": stage.value,
        "recorded": recording_notice,
        "steps": _step_states(stage, dense.snapshot),
        "caption": stage_caption(stage, dense.snapshot, efficient.snapshot),
        "ending": _ending_data(dense.snapshot, efficient.snapshot)
        if stage is RaceStage.RESULT
        else None,
        "lanes": [_lane_data(name, scene) for name, scene in lanes.items()],
        "rows": [
            {
                "name": row.name,
                "note": row.note,
                "bars": [_bar_data(n, getattr(row, n)) for n in lanes],
            }
            for row in drawn
        ],
        "note": ""
        if energy or dense.snapshot.progress < _NO_ENERGY_AFTER
        else _no_energy_text(dense.snapshot),
    }


def _step_states(stage: RaceStage, dense: Snapshot) -> list[dict[str, str]]:
    order = list(_STEP_TITLES)
    if stage is RaceStage.BROKEN:  # it ended in one of the two runs
        stage = RaceStage.EFFICIENT if dense.status is RunStatus.FINISHED else RaceStage.DENSE
    now = order.index(stage)
    states = ["done" if place < now else "now" if place == now else "" for place in range(4)]
    return [
        {"title": _STEP_TITLES[each], "state": state}
        for each, state in zip(order, states, strict=True)
    ]


def _lane_data(name: str, scene: RaceScene) -> dict[str, Any]:
    look = scene.snapshot
    metric, value = TASKS.get(look.config.task).metric, _latest_metric(look)
    return {
        "id": name,
        "name": _LANE_TITLES[name],
        "status": _STATUS_TEXTS.get(look.status, look.status.value),
        "value": "" if value is None else metric_text(metric, value),
        "meaning": _metric_meaning(look, metric),
        "pictures": [
            {"name": each, "url": scene.pictures[each], "caption": _PICTURE_CAPTIONS[name][each]}
            for each in SHOWN_VIEWS
            if each in scene.pictures
        ],
    }


def _metric_meaning(snapshot: Snapshot, metric: Metric) -> str:
    """Return what the number of a lane says, or why there is none."""
    if snapshot.status is RunStatus.QUEUED:
        return _WAITING_TEXT
    if snapshot.status.is_final and snapshot.start is None:
        return _NEVER_STARTED_TEXT
    return f"{metric.label}: {metric_meaning(metric)}"


def _latest_metric(snapshot: Snapshot) -> float | None:
    """Return what a run came to, or what it was last evaluated at."""
    if snapshot.end is not None:
        return snapshot.end.metric
    return (
        float(snapshot.evals[EVAL_COLUMNS.index("metric"), -1]) if snapshot.evals.shape[1] else None
    )


def _bar_data(lane: str, bar: RaceBar) -> dict[str, Any]:
    return {"lane": lane, "who": _BAR_LABELS[lane], **bar._asdict()}


def _ending_data(dense: Snapshot, efficient: Snapshot) -> list[Mapping[str, Any]]:
    found = race_ending(dense, efficient)._asdict()
    return [{"title": title, "said": found[name]} for name, title in _ENDING_TITLES.items()]


def _no_energy_text(dense: Snapshot) -> str:
    why = dense.energy.notes[0] if dense.energy.notes else dense.energy.source
    return f"No bar of energy: it is not known here. {why}"
