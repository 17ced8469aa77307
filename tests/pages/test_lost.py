"""An address that leads to no page."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.web.server.starlette.starlette_static_routes import (
    create_streamlit_static_assets_routes,
)

from pages.ui.not_found import UnknownPathRedirect, unknown_page_name


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
        ("http://lab.example/beneath/runs", None),  # of an app that a proxy serves there
        ("http://lab.example/beneath/nothing/", "nothing"),
    ],
)
def test_a_name_that_no_page_has_is_found(url: str | None, name: str | None) -> None:
    assert unknown_page_name(url, {"", "runs"}) == name


async def own(_: Request) -> HTMLResponse:
    return HTMLResponse("own")


def served(beneath: str = "") -> TestClient:
    """A browser before Streamlit's own pages and scripts, and one route of several parts."""
    routes = [Route("/media/report.html", own), *create_streamlit_static_assets_routes(beneath)]
    app = Starlette(routes=routes, middleware=[Middleware(UnknownPathRedirect)])
    return TestClient(app, base_url="http://127.0.0.1:8501", follow_redirects=False)


@pytest.mark.parametrize(
    ("beneath", "path", "place"),
    [
        ("", "/a/b", "../no-such-page?asked=a%2Fb"),
        ("", "/live/x/y?run=z", "../../no-such-page?asked=live%2Fx%2Fy"),
        ("", "/a%2Fb", "no-such-page?asked=a%2Fb"),
        ("", "/n%C3%B6/%3Cb%3E%0D", "../no-such-page?asked=n%C3%B6%2F%3Cb%3E%0D"),
        ("lab/one", "/lab/one/a/b", "../no-such-page?asked=a%2Fb"),
    ],
)
def test_an_address_of_several_parts_leads_on(beneath: str, path: str, place: str) -> None:
    for answer in (served(beneath).get(path), served(beneath).head(path)):
        assert (answer.status_code, answer.headers["location"]) == (307, place)
        assert answer.content == b""


def test_what_is_served_stays_where_it_is() -> None:
    client = served()
    pages = [client.get(path) for path in ("/", "/runs", "/nothing")]
    assert all("<title>" in page.text and page.is_success for page in pages)
    script = pages[0].text.partition('src="./')[2].partition('"')[0]
    assert client.get(f"/{script}").headers["content-type"].startswith("text/javascript")
    assert client.get("/media/report.html").text == "own"
    # Where a page looks for its server below itself: an answer would be taken for it.
    assert client.get("/live/_stcore/health").status_code == 404
    assert client.get("/runs/").headers["location"] == "/runs"
    beneath = served("lab/one")
    assert beneath.get("/lab/one/runs").is_success
    assert beneath.get("/a/b").status_code == 404  # no address of the app
