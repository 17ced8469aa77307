"""Addresses that lead to no page: Streamlit would say so in a box and show another one."""

from __future__ import annotations

from collections.abc import Container
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Where an address of several parts leads; no page has this name, and the one that says so does.
NOT_FOUND_PATH: Final = "no-such-page"
#: Parameter of that address: what was asked for.
REQUESTED_PARAMETER: Final = "asked"


def unknown_page_name(url: str | None, known_names: Container[str]) -> str | None:
    """Return the name in an address that no page has; ``None`` where a page has it.

    Args:
        url: Of the app as the browser has it, if that is known.
        known_names: Names that lead somewhere.
    """
    # Before the name may stand whatever the app is served beneath.
    path = unquote(urlsplit(url or "").path).strip("/")
    # Streamlit, too, drops what is blank around a name: it allows none that is there twice.
    name = path.rpartition("/")[2].strip()
    return None if not name or name in known_names else name


class UnknownPathRedirect:
    """Leads a browser on from an address of several parts, such as ``/live/x``.

    Streamlit answers it with its own page, whose scripts are then looked for beneath the
    address and not found: the window stays empty. All else passes through as it is.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, but for its own page in such a place."""
        led = False

        async def answer(message: Message) -> None:
            nonlocal led
            if not led and (place := _redirect_target(scope, message)) is not None:
                led = True
                await RedirectResponse(place)(scope, receive, send)
            elif not led:
                await send(message)

        await self._app(scope, receive, answer)


def _redirect_target(scope: Scope, message: Message) -> str | None:
    """Return where to go instead, from where the request is; ``None`` to stay."""
    # Routing has noted in the scope who answers, and beneath which path.
    if message["type"] != "http.response.start" or not _is_app_html(scope, message):
        return None
    beneath: str = scope["root_path"]
    asked = scope["path"].removeprefix(beneath).strip("/")
    if "/" not in asked:
        return None
    # Relative, so that it holds behind a proxy that takes a prefix away. A slash that is
    # written as %2F is none to a browser.
    up: int = scope["raw_path"].count(b"/") - beneath.count("/") - 1
    return "../" * up + f"{NOT_FOUND_PATH}?{urlencode({REQUESTED_PARAMETER: asked})}"


def _is_app_html(scope: Scope, message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return isinstance(scope.get("endpoint"), StaticFiles) and kind.startswith("text/html")
