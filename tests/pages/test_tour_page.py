"""The Tour page: started, told to its end, stopped, left and come back to, played back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.records import RunStatus
from effcore.runs.manager import shared_run_manager
from tests.pages.visit import SHORT, press, said, visit

LONG = SHORT | {"epochs": "1000"}


def tour(app: AppTest) -> dict[str, Any]:
    """What the panel was told last."""
    told = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    shown: dict[str, Any]
    (shown,) = [each for each in told if "stage" in each]
    return shown


def ran() -> None:
    """Wait until nothing trains any more."""
    while (run := shared_run_manager().active_run()) is not None:
        assert run.join(60)


def links(app: AppTest) -> dict[str, str]:
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


def test_one_press_trains_both_and_says_what_came_of_it() -> None:
    app = visit("tour.py", **SHORT)
    assert not app.exception
    assert "about three minutes" in app.markdown[0].value
    app = press(app, "start-tour")
    assert not app.exception
    dense, efficient = (app.query_params[name] for name in ("dense", "efficient"))
    ran()
    app.run()
    shown = tour(app)
    assert shown["stage"] == "result"
    assert shown["recorded"] == ""
    assert [step["state"] for step in shown["steps"]] == ["done"] * 3 + ["now"]
    saved, cost, sure = (part["said"] for part in shown["ending"])
    assert re.match(r"Computation: 4\d% less", saved[0])  # whole steps: a small share missed
    assert any("points" in words for words in cost)
    assert "not a verdict" in sure[0]
    looks = [shared_run_manager().store.load_snapshot(run_id) for run_id in (dense, efficient)]
    assert [look.config.selection for look in looks] == ["dense", "confident-skip"]
    assert looks[0].config.seed == looks[1].config.seed
    assert links(app)["The efficient run"] == f"run={efficient}"
    again = visit("tour.py", dense=dense, efficient=efficient)  # reloaded, or sent to somebody
    assert tour(again) == shown
    swapped = visit("tour.py", dense=efficient, efficient=dense)
    assert "are not a race" in said(swapped, "warning")
    assert press(app, "leave-tour").button(key="start-tour")


def test_it_can_be_stopped_and_says_so() -> None:
    app = press(visit("tour.py", **LONG), "start-tour")
    run = shared_run_manager().active_run()
    assert run is not None
    assert tour(app)["stage"] in ("question", "dense")
    assert tour(app)["lanes"][1]["status"] == "waiting"
    app.switch_page("energy.py").run()
    app.query_params = {}  # a browser forgets them with the page
    assert tour(app.switch_page("tour.py").run())["lanes"][1]["status"] == "waiting"
    app = press(app, "stop-tour")
    assert run.join(60)
    assert shared_run_manager().queued_runs() == []
    shown = tour(app.run())
    assert shown["stage"] == "broken"
    assert "Full training was stopped" in shown["caption"]
    assert shown["lanes"][1]["meaning"].startswith("It never started")
    assert app.button(key="leave-tour")


def test_what_waits_does_not_train_once_the_dense_run_is_stopped_elsewhere() -> None:
    app = press(visit("tour.py", **LONG), "start-tour")
    run = shared_run_manager().active_run()
    assert run is not None
    (other,) = shared_run_manager().queued_runs()
    run.stop()
    assert run.join(60)
    app.run()
    assert other.join(60)
    assert tour(app.run())["stage"] == "broken"


def test_a_race_whose_second_run_never_began_says_so_and_starts_again() -> None:
    gone = "20200101-000000-aaaa"  # it waited, and the app was closed
    for settings, words in ((LONG, "full training was stopped"), (SHORT, "or it was deleted")):
        (run,) = shared_run_manager().start(
            resolve(settings | {"selection": "dense", "device": "cpu"})
        )
        if settings is LONG:
            run.stop()
        assert run.join(60)
        app = visit("tour.py", dense=run.run_id, efficient=gone, **settings)
        assert not app.exception
        assert words in said(app, "warning")
        assert "There is no run" not in said(app, "warning")
        assert links(app)["Full training"] == f"run={run.run_id}"
        assert not app.button(key="start-tour").disabled
        assert app.query_params["epochs"] == settings["epochs"], "the same race again"


def test_a_busy_device_is_said_and_nothing_starts() -> None:
    (run,) = shared_run_manager().start(resolve(LONG | {"device": "cpu"}))
    app = press(visit("tour.py", **SHORT), "start-tour")
    assert "A run is already training" in said(app, "warning")
    assert links(app)["Open the run that trains"] == f"run={run.run_id}"
    assert shared_run_manager().queued_runs() == []
    run.stop()
    assert run.join(60)
    shared_run_manager().reserve_device(run.config.device, "A study")
    assert "A study has" in said(press(app, "start-tour"), "error")
    shared_run_manager().release_device(run.config.device)


def test_an_impossible_address_is_explained() -> None:
    app = visit("tour.py", task="digit")
    assert not app.exception
    assert "did you mean 'digits'" in said(app, "error")
    assert app.button(key="start-tour").disabled
    app.query_params = {"dense": "20200101-000000-aaaa", "efficient": "x"}
    app.run()
    assert not app.exception
    assert "There is no run" in said(app, "warning")
    assert not app.button(key="start-tour").disabled


def test_the_recorded_race_is_marked_from_start_to_end() -> None:
    app = press(visit("tour.py"), "play-recorded")
    assert not app.exception
    first = tour(app)
    assert first["stage"] == "question"
    app.session_state["tour-began"] -= 1e6
    last = tour(app.run())
    assert last["stage"] == "result"
    for shown in (first, last):
        assert shown["recorded"].startswith("RECORDED on 20")
    assert "seed 0" in app.caption[0].value
    assert {lane["status"] for lane in last["lanes"]} == {RunStatus.FINISHED.value}
    assert tour(press(app, "play-again"))["stage"] == "question"
    assert "present" in press(app, "present-tour").query_params
    assert "present" not in press(app, "unpresent").query_params


def test_a_missing_recording_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pages.ui.assets.RACE_RECORDING", tmp_path / "race.json")
    app = visit("tour.py", recorded="1")
    assert not app.exception
    assert "cannot be played" in said(app, "error")
