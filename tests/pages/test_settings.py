from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from effcore.policies.combination import POLICY_REGISTRIES
from tests.pages.visit import SHORT, said, visit


def texts(app: AppTest) -> str:
    """Return everything that is written in small letters."""
    return "\n".join(text.value for text in [*app.caption, *app.markdown])


def options(app: AppTest, kind: str) -> list[str]:
    return list(app.selectbox(key=f"set_{kind}").options)


def choose(app: AppTest, name: str, value: str) -> AppTest:
    return app.selectbox(key=f"set_{name}").select(value).run()


def test_what_a_model_cannot_be_trained_with_is_not_offered_but_explained() -> None:
    app = visit(task="digits", model="mlp")
    assert "Resolution" not in options(app, "intensity")
    assert "Drop backward" not in options(app, "update")
    assert "Not for this model: Drop backward (it has no residual branches)." in texts(app)
    assert "Resolution (it does not accept examples of smaller resolution)" in texts(app)
    assert "Resolution" in options(visit(task="digits", model="cnn"), "intensity")
    assert options(app, "selection") == [policy.title for policy in POLICY_REGISTRIES["selection"]]


@pytest.mark.parametrize(
    ("query", "change", "kind", "usual"),
    [
        ({"task": "digits", "intensity": "resolution"}, ("model", "mlp"), "intensity", "full"),
        ({"task": "code", "update": "drop-backward"}, ("task", "photo"), "update", "every-step"),
    ],
)
def test_a_policy_that_no_longer_fits_gives_way_to_the_default(
    query: dict[str, str], change: tuple[str, str], kind: str, usual: str
) -> None:
    app = visit(**query)
    assert app.selectbox(key=f"set_{kind}").value == query[kind]
    choose(app, *change)
    assert not app.exception
    assert app.selectbox(key=f"set_{kind}").value == usual
    assert f"{POLICY_REGISTRIES[kind].get(query[kind]).title} does not fit this model" in texts(app)
    assert said(app, "error") == said(app, "warning") == ""
    assert not app.button(key="start").disabled
    assert app.query_params[kind] == usual
    app.run()
    assert "does not fit this model" not in texts(app)


def test_what_is_folded_away_says_so_where_it_is_not_the_usual() -> None:
    def label(app: AppTest) -> str:
        return next(e.label for e in app.expander if e.label.startswith("Update and intensity"))

    app = visit(task="digits")
    assert label(app) == "Update and intensity"
    choose(app, "intensity", "resolution")
    assert label(app) == "Update and intensity: **Resolution**"


def test_switching_what_cuts_and_back_keeps_both_values() -> None:
    app = visit(**SHORT)
    app.number_input(key="set_mass").set_value(0.3).run()
    app.radio(key="set_group_cut").set_value("loss_threshold").run()
    app.number_input(key="set_loss_threshold").set_value(0.77).run()
    app.radio(key="set_group_cut").set_value("mass").run()
    assert app.number_input(key="set_mass").value == 0.3
    assert "loss_threshold" not in app.query_params
    app.radio(key="set_group_cut").set_value("loss_threshold").run()
    assert app.number_input(key="set_loss_threshold").value == 0.77


def test_going_without_a_budget_for_a_while_keeps_it() -> None:
    app = visit(**SHORT, budget="0.5")
    app.slider(key="set_budget").set_value(0.4).run()
    app.radio(key="set_end").set_value("passes").run()
    app.radio(key="set_end").set_value("budget").run()
    assert app.slider(key="set_budget").value == 0.4


def test_choosing_one_policy_leaves_the_knobs_of_the_others() -> None:
    app = visit(**SHORT)
    app.number_input(key="set_mass").set_value(0.3).run()
    choose(app, "update", "prefix-freeze")
    assert app.number_input(key="set_mass").value == 0.3
    assert app.number_input(key="set_frozen_share").value == 0.5


@pytest.mark.parametrize(
    ("name", "asked", "used", "allowed"),
    [("epochs", 5000, 1000, 2), ("mass", -0.5, 0.0, 0.1), ("seed", -1, 0, 3)],
)
def test_a_number_out_of_range_is_replaced_and_both_are_named(
    name: str, asked: float, used: float, allowed: float
) -> None:
    app = visit(**SHORT)
    app.number_input(key=f"set_{name}").set_value(asked).run()
    assert app.number_input(key=f"set_{name}").value == used
    assert f"{asked:g} is not allowed" in texts(app)
    assert f"{used:g} is used" in texts(app)
    assert not app.button(key="start").disabled
    app.number_input(key=f"set_{name}").set_value(allowed).run()
    assert "is not allowed" not in texts(app)


def test_what_hinders_a_start_is_said_beside_both_buttons() -> None:
    app = visit(**SHORT)
    app.number_input(key="set_batch_size").set_value(8000).run()
    assert app.button(key="start").disabled
    assert app.button(key="start-here").disabled
    assert [app.sidebar.error[0].value, app.main.error[0].value] == [app.error[0].value] * 2
    assert "choose at most 1257" in said(app, "error")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"update": "prefix-freeze"}, "2 of 4 stages stop training"),
        ({"update": "drop-backward"}, "a step skips the backward pass of 2 of 4 branches"),
        ({"intensity": "depth-growth"}, "training starts with 1 of 2 residual stages"),
    ],
)
def test_a_share_is_also_told_in_stages_of_the_model(query: dict[str, str], words: str) -> None:
    assert f"In this model: {words}." in texts(visit(task="code", size="small", **query))


def test_every_script_run_tells_the_browser_what_is_chosen() -> None:
    """A run that is cut short may not have: its boxes would show their first option."""
    app = visit(**SHORT).run()
    assert app.selectbox(key="set_task").proto.set_value
    assert app.selectbox(key="set_task").value == "digits"


def test_a_link_from_another_page_brings_its_settings() -> None:
    app = visit(task="digits", mass="0.2", epochs="7")
    app.switch_page("runs.py").run()
    app.switch_page("live.py")
    app.query_params.clear()
    app.run()
    assert app.number_input(key="set_epochs").value == 7, "without any, the choices are kept"
    app.switch_page("runs.py").run()
    app.switch_page("live.py")
    link = {"task": "digits", "selection": "random", "skip_fraction": "0.75"}
    app.query_params.clear()
    app.query_params.update(link)
    app.run()
    assert app.selectbox(key="set_selection").value == "random"
    assert app.query_params["skip_fraction"] == "0.75"
    assert said(app, "warning") == ""
