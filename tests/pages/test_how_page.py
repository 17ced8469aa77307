"""The explanation: every section opens, and moving its slider changes what it says."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from tests.pages.visit import visit

SECTIONS = ("cut", "cost", "masking", "weights", "race")


def seen(app: AppTest) -> dict[str, str]:
    """What each section says of its chart."""
    told = [str(box.value) for box in app.markdown if str(box.value).startswith("**")]
    return dict(zip(SECTIONS, told, strict=True))


def links(app: AppTest) -> dict[str, str]:
    """Where the links to the Live page lead, by their label."""
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


def test_every_slider_changes_what_its_section_says_and_where_it_leads() -> None:
    app = visit("how.py")
    assert not app.exception
    assert app.title[0].value == "How it works"
    assert [len(table.value) > 0 for table in app.table] == [True] * 6
    first, led = seen(app), links(app)
    assert "1,057 of 1,257 examples (84%)" in first["cut"]
    assert "saving 40% leaves 27% to train on, and at most 67%" in first["cost"]
    assert "With a mask, the step saves 0%" in first["masking"]
    assert (
        led["Confident skip, with this threshold"]
        == "task=digits&selection=confident-skip&mass=0.35"
    )
    app.radio(key="how_cut_by").set_value("loss_threshold")
    app.slider(key="how_share").set_value(0.25)
    app.slider(key="how_wanted").set_value(16)
    app.slider(key="how_correction").set_value(1.0)
    app.slider(key="how_budget").set_value(0.2)
    app.run()
    assert not app.exception
    then, now = seen(app), links(app)
    assert [name for name in SECTIONS if then[name] == first[name]] == []
    assert "saves 75% if the others are never loaded, and 42%" in then["cost"]
    assert "it saves 50%" in then["masking"]
    assert "loss_threshold=0.01" in now["Confident skip, with this threshold"]
    assert "beta=3" in now["Selective-Backprop"]
    assert "correction=1" in now["Stale PPS"]
    assert "budget=0.2" in now["Confident skip at this budget"]
