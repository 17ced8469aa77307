"""An address that leads to no page."""

from __future__ import annotations

import pytest

from pages.ui.lost import lost_name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, None),
        ("http://127.0.0.1:8501", None),
        ("http://127.0.0.1:8501/runs?run=x", None),
        ("http://127.0.0.1:8501/nothing?run=x#y", "nothing"),
        ("http://127.0.0.1:8501/n%C3%B6%20%3Cb%3E/", "nö <b>"),
        ("http://127.0.0.1:8501/runs%20", None),  # as Streamlit reads it, too
        ("http://127.0.0.1:8501/%C2%A0", None),
        ("http://127.0.0.1:8501/a/b", None),  # which Streamlit does not serve
    ],
)
def test_a_name_that_no_page_has_is_found(url: str | None, name: str | None) -> None:
    assert lost_name(url, {"", "runs"}) == name
