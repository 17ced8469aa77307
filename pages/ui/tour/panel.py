"""The tour's panel, which shows a race at one moment and is updated in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st

from effcore.insight.race_narration import (
    RaceBar,
    metric_meaning,
    race_ending,
    race_rows,
    stage_caption,
)
from effcore.insight.race_recording import SHOWN_VIEWS, RaceScene, RaceStage, race_stage
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

#: Progress of full training after which missing joules will not appear any more.
_NO_ENERGY_AFTER: Final = 0.1
_STEP_TITLES: Final = {
    RaceStage.QUESTION: "The question",
    RaceStage.DENSE: "Full training",
    RaceStage.EFFICIENT: "Efficient training",
    RaceStage.RESULT: "The result",
}
_LANE_TITLES: Final = {"dense": "Full training", "efficient": "Efficient training"}
_BAR_LABELS: Final = {"dense": "Full", "efficient": "Efficient"}
_STATUS_TEXTS: Final = {RunStatus.QUEUED: "waiting", RunStatus.RUNNING: "training"}
_PICTURE_CAPTIONS: Final = {
    "dense": {
        "reconstruction": "The picture so far",
        "compute": "Where it computes: everywhere alike",
    },
    "efficient": {
        "reconstruction": "The picture so far",
        "compute": "Where it computes: brighter means more often",
    },
}
_WAITING_TEXT: Final = (
    "It starts when full training has ended, so that each run is timed and metered alone."
)
_NEVER_STARTED_TEXT: Final = "It never started, because full training did not finish."
_ENDING_TITLES: Final = {
    "saved": "What was saved",
    "cost": "What it cost",
    "sure": "How sure that is",
}


def draw_tour_panel(
    dense: RaceScene, efficient: RaceScene, recording_notice: str = "", key: str = "tour"
) -> None:
    """Draw a race at one moment.

    Args:
        dense: Full training.
        efficient: The efficient run.
        recording_notice: Notice shown with a recording; empty for a race that runs here.
        key: Identity of the element; the same on every script run.
    """
    _panel_component(key=key, data=_panel_data(dense, efficient, recording_notice))


def _panel_data(
    dense: RaceScene, efficient: RaceScene, recording_notice: str = ""
) -> dict[str, Any]:
    """Return the texts, bars and pictures of the panel."""
    stage = race_stage(dense.snapshot, efficient.snapshot)
    lanes = {"dense": dense, "efficient": efficient}
    rows = race_rows(dense.snapshot, efficient.snapshot)
    has_energy = any(row.name == "Energy" for row in rows)
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
            for row in rows
        ],
        "note": ""
        if has_energy or dense.snapshot.progress < _NO_ENERGY_AFTER
        else _no_energy_text(dense.snapshot),
    }


def _step_states(stage: RaceStage, dense: Snapshot) -> list[dict[str, str]]:
    order = list(_STEP_TITLES)
    if stage is RaceStage.BROKEN:  # one of the two runs did not finish
        stage = RaceStage.EFFICIENT if dense.status is RunStatus.FINISHED else RaceStage.DENSE
    current = order.index(stage)
    states = [
        "done" if place < current else "now" if place == current else ""
        for place in range(len(order))
    ]
    return [
        {"title": _STEP_TITLES[step], "state": state}
        for step, state in zip(order, states, strict=True)
    ]


def _lane_data(name: str, scene: RaceScene) -> dict[str, Any]:
    snapshot = scene.snapshot
    metric, value = TASKS.get(snapshot.config.task).metric, _latest_metric(snapshot)
    return {
        "id": name,
        "name": _LANE_TITLES[name],
        "status": _STATUS_TEXTS.get(snapshot.status, snapshot.status.value),
        "value": "" if value is None else metric_text(metric, value),
        "meaning": _metric_meaning(snapshot, metric),
        "pictures": [
            {"name": view, "url": scene.pictures[view], "caption": _PICTURE_CAPTIONS[name][view]}
            for view in SHOWN_VIEWS
            if view in scene.pictures
        ],
    }


def _metric_meaning(snapshot: Snapshot, metric: Metric) -> str:
    """Return the explanation of a lane's number, or why there is none."""
    if snapshot.status is RunStatus.QUEUED:
        return _WAITING_TEXT
    if snapshot.status.is_final and snapshot.start is None:
        return _NEVER_STARTED_TEXT
    return f"{metric.label}: {metric_meaning(metric)}"


def _latest_metric(snapshot: Snapshot) -> float | None:
    """Return a run's final metric, or that of its last evaluation."""
    if snapshot.end is not None:
        return snapshot.end.metric
    return (
        float(snapshot.evals[EVAL_COLUMNS.index("metric"), -1]) if snapshot.evals.shape[1] else None
    )


def _bar_data(lane: str, bar: RaceBar) -> dict[str, Any]:
    return {"lane": lane, "who": _BAR_LABELS[lane], **bar._asdict()}


def _ending_data(dense: Snapshot, efficient: Snapshot) -> list[Mapping[str, Any]]:
    sentences = race_ending(dense, efficient)._asdict()
    return [{"title": title, "said": sentences[name]} for name, title in _ENDING_TITLES.items()]


def _no_energy_text(dense: Snapshot) -> str:
    why = dense.energy.notes[0] if dense.energy.notes else dense.energy.source
    return f"There is no energy bar, because energy is not known here. {why}"
