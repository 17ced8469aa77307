"""Handling of unknown addresses, for which Streamlit would show another page."""

from __future__ import annotations

from collections.abc import Container
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Redirect target for addresses with several parts. No page has this name, so that the page for
#: unknown addresses is shown.
NOT_FOUND_PATH: Final = "no-such-page"
#: Query parameter of that target: the requested path.
REQUESTED_PARAMETER: Final = "asked"


def unknown_page_name(url: str | None, known_names: Container[str]) -> str | None:
    """Return the page name in an address if no page has it, else ``None``.

    Args:
        url: Address in the browser, if it is known.
        known_names: Names of the pages.
    """
    # A base path under which the app is served may precede the name.
    path = unquote(urlsplit(url or "").path).strip("/")
    # Streamlit also strips spaces around a name.
    name = path.rpartition("/")[2].strip()
    return None if not name or name in known_names else name


class UnknownPathRedirect:
    """ASGI middleware that redirects addresses with several parts, such as ``/live/x``.

    Streamlit answers them with its HTML page, whose relative script addresses then fail, so that
    the window stays empty. Other requests pass through unchanged.

    Args:
        app: The wrapped app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer like the app, but redirect its HTML page at an address with several parts."""
        redirected = False

        async def answer(message: Message) -> None:
            nonlocal redirected
            if not redirected and (target := _redirect_target(scope, message)) is not None:
                redirected = True
                await RedirectResponse(target)(scope, receive, send)
            elif not redirected:
                await send(message)

        await self._app(scope, receive, answer)


def _redirect_target(scope: Scope, message: Message) -> str | None:
    """Return the relative address to redirect to; ``None`` for no redirect."""
    # Routing has set the endpoint and the root path in the scope.
    if message["type"] != "http.response.start" or not _is_app_html(scope, message):
        return None
    root_path: str = scope["root_path"]
    requested = scope["path"].removeprefix(root_path).strip("/")
    if "/" not in requested:
        return None
    # Relative, so that it works behind a proxy that strips a prefix. The raw path is counted,
    # since %2F is no slash for a browser.
    levels: int = scope["raw_path"].count(b"/") - root_path.count("/") - 1
    return "../" * levels + f"{NOT_FOUND_PATH}?{urlencode({REQUESTED_PARAMETER: requested})}"


def _is_app_html(scope: Scope, message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return isinstance(scope.get("endpoint"), StaticFiles) and kind.startswith("text/html")
