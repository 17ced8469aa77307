from __future__ import annotations

import json
from pathlib import Path

import pytest

from effcore.config import resolve
from effcore.runs.manager import shared_run_manager
from effcore.store.checkpoint_file import CHECKPOINT_FILE
from effcore.tasks.base import TASKS
from tests.left import leave
from tests.pages.visit import SHORT, finished_run, panels, press, said, visit


def test_the_first_visit_explains_itself() -> None:
    app = visit()
    assert not app.exception
    assert app.title[0].value == "Watch training skip what it no longer needs"
    assert not app.button(key="start").disabled
    assert app.selectbox(key="set_task").value == "photo"
    assert app.selectbox(key="set_selection").value == "confident-skip"
    assert said(app, "warning") == said(app, "error") == ""
    assert panels(app) == []


def test_the_empty_page_links_to_the_newest_runs() -> None:
    assert [header.value for header in visit().header] == []
    press(visit(**SHORT), "start")
    run = finished_run()
    app = visit()
    assert panels(app) == []
    assert [header.value for header in app.header] == ["Recent runs"]
    links = [element.proto for element in app.get("page_link")]
    assert any(run.run_id in link.query_string for link in links)


def test_every_choice_has_a_line_that_explains_it() -> None:
    app = visit()
    for box in [*app.selectbox, *app.number_input, *app.toggle]:
        assert box.help, box.label


def test_the_address_sets_the_choices() -> None:
    app = visit(**SHORT, seed="5", learning_rate="0.01", budget="0.5", mass="0.2")
    assert said(app, "warning") == ""
    assert app.selectbox(key="set_task").value == "digits"
    assert app.selectbox(key="set_model").value == "mlp"
    assert app.number_input(key="set_epochs").value == 1
    assert app.number_input(key="set_seed").value == 5
    assert app.number_input(key="set_learning_rate").value == 0.01
    assert app.number_input(key="set_mass").value == 0.2
    assert app.slider(key="set_budget").value == 0.5


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"task": "digit"}, "did you mean 'digits'"),
        ({"selection": "confidant-skip"}, "did you mean 'confident-skip'"),
        ({"update": "x"}, "every-step"),
        ({"epochs": "banana"}, "epochs='banana'"),
        ({"seed": "-1"}, "seed='-1'"),
        ({"mass": "2"}, "mass"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
        ({"masss": "0.5"}, "did you mean 'mass'"),
        ({"batch_size": "8000", "task": "digits"}, "batch_size"),
        ({"run": "20200101-000000-aaaa"}, "no run"),
        ({"run": "../../etc/passwd"}, "no run"),
    ],
)
def test_an_impossible_address_is_explained_and_the_rest_kept(
    query: dict[str, str], words: str
) -> None:
    app = visit(**query, learning_rate="0.0123")
    assert not app.exception
    assert words in said(app, "warning")
    assert app.number_input(key="set_learning_rate").value == 0.0123
    assert not app.button(key="start").disabled


def test_start_trains_and_shows_the_panel() -> None:
    app = press(visit(**SHORT), "start")
    assert not app.exception
    run = finished_run()
    assert json.loads(panels(app)[0])["run"] == run.run_id
    assert app.query_params["run"] == run.run_id
    assert run.config.task == "digits"
    assert run.snapshot().status == "finished"
    assert shared_run_manager().store.load_snapshot(run.run_id).status == "finished"


def test_a_run_can_be_started_without_the_sidebar() -> None:
    app = press(visit(**SHORT), "start-here")
    assert json.loads(panels(app)[0])["run"] == finished_run().run_id
    assert "start-here" not in [button.key for button in app.button]


def test_a_link_opens_a_stored_run() -> None:
    press(visit(**SHORT), "start")
    run = finished_run()
    app = visit(run=run.run_id)
    assert said(app, "warning") == ""
    assert json.loads(panels(app)[0])["run"] == run.run_id


def test_a_visit_without_an_address_finds_the_run_that_trains() -> None:
    app = press(visit(**SHORT | {"epochs": "1000"}), "start")
    run = shared_run_manager().active_run()
    assert run is not None
    other = visit()
    assert panels(other) == panels(app)
    elsewhere = visit("runs.py")
    assert "Training now" in [caption.value for caption in elsewhere.caption]


def test_a_busy_device_asks_and_starts_nothing() -> None:
    app = press(visit(**SHORT | {"epochs": "1000"}), "start")
    first = shared_run_manager().active_run()
    app = press(app, "start")
    assert not app.exception
    assert "One run trains at a time" in "".join(text.value for text in app.markdown)
    for choice in ("busy-open", "busy-queue", "busy-replace"):
        assert not app.button(key=choice).disabled
    assert shared_run_manager().active_run() is first
    assert shared_run_manager().queued_runs() == []


def test_a_store_that_cannot_be_used_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "file"))
    for page in ("", "runs.py"):
        app = visit(page)
        assert not app.exception
        assert "Runs cannot be stored" in said(app, "error")
        assert str(tmp_path) not in said(app, "error")
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "good"))
    app.button[0].click().run()  # Try again
    assert said(app, "error") == ""


def test_a_damaged_store_is_explained_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path))
    database = tmp_path / "effcore.sqlite"
    database.write_bytes(b"this is no database" * 100)
    app = visit()
    assert not app.exception
    assert "Runs cannot be stored" in said(app, "error")
    assert database.read_bytes() == b"this is no database" * 100


def test_changing_the_task_takes_its_defaults() -> None:
    app = visit()
    app.selectbox(key="set_task").select("digits").run()
    assert not app.exception
    assert app.selectbox(key="set_model").value == "cnn"
    assert app.number_input(key="set_epochs").value == TASKS.get("digits").models[0].defaults.epochs


def test_changing_the_model_takes_its_defaults() -> None:
    app = visit(task="photo")
    app.selectbox(key="set_model").select("siren").run()
    assert not app.exception
    usual = TASKS.get("photo").model_choice("siren").defaults
    assert app.number_input(key="set_learning_rate").value == usual.learning_rate


def test_a_task_whose_data_can_be_spoilt_offers_how() -> None:
    app = visit(**SHORT, label_noise="0.1", size="small")
    assert not app.exception
    assert app.number_input(key="set_label_noise").value == 0.1
    assert app.selectbox(key="set_size").value == "small"
    app.number_input(key="set_imbalance").set_value(20.0).run()
    assert app.query_params["imbalance"] == "20.0"
    press(app, "start")
    config = finished_run().config
    assert (config.data["label_noise"], config.data["imbalance"], config.size) == (0.1, 20, "small")
    app.selectbox(key="set_task").select("photo").run()
    assert not app.exception
    assert "set_label_noise" not in [widget.key for widget in app.number_input]
    assert "label_noise" not in app.query_params


def test_choices_survive_a_look_at_another_page_while_a_run_trains() -> None:
    app = press(visit(**SHORT | {"epochs": "1000"}), "start")
    app.number_input(key="set_seed").set_value(77).run()
    app.switch_page("runs.py").run()
    app.query_params.clear()  # as the browser leaves it
    app.switch_page("live.py").run()
    assert app.number_input(key="set_seed").value == 77
    assert len(panels(app)) == 1
    assert visit().number_input(key="set_epochs").value == 1000, "a first visit takes the run's"


def test_a_reference_that_waits_is_followed_to_the_run_behind_it() -> None:
    press(visit(**SHORT | {"epochs": "1000"}), "start")
    config = resolve({**SHORT, "seed": 5})
    dense, run = shared_run_manager().start(config, with_reference=True, when_busy="queue")
    app = visit(run=dense.run_id)
    assert "Your run starts when it has ended" in "".join(caption.value for caption in app.caption)
    run.stop()
    app.run()
    assert "Your run starts when it has ended" not in "".join(
        caption.value for caption in app.caption
    )


def test_choices_survive_a_look_at_another_page() -> None:
    app = visit(**SHORT, seed="9")
    app.switch_page("runs.py").run()
    app.switch_page("live.py").run()
    assert app.number_input(key="set_seed").value == 9
    assert app.selectbox(key="set_model").value == "mlp"


def test_an_interrupted_run_can_be_resumed_from_its_page_or_says_why_not() -> None:
    store = shared_run_manager().store
    run_id = leave(store, resolve({**SHORT, "device": "cpu"}), at=4, beyond=2)
    checkpoint = store.home / "runs" / run_id / CHECKPOINT_FILE
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-1])
    app = press(visit(run=run_id), "resume")
    assert "could not be resumed. the checkpoint of" in said(app, "error")
    checkpoint.unlink()
    assert any("before its first checkpoint" in text.value for text in app.run().caption)
    checkpoint.write_bytes(whole)
    app = press(app.run(), "resume")
    run = finished_run()
    assert (run.run_id, run.snapshot().resumed.steps) == (run_id, (4,))
    assert "resume" not in [button.key for button in app.run().button]
