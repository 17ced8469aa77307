"""Open a page of the app without a browser."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from effcore.runs.manager import shared_run_manager
from effcore.runs.run import Run

# Each AppTest would look through everything that is installed for components anew.
manifest_scanner.scan_component_manifests = functools.cache(
    manifest_scanner.scan_component_manifests
)

MAIN = Path(__file__).parents[2] / "pages" / "_main.py"
#: The shortest run there is on real data.
SHORT = {"task": "digits", "model": "mlp", "epochs": "1"}


def visit(page: str = "", **query: str | list[str]) -> AppTest:
    """Open a page at an address and look at it once; without one, what opens first."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return (app.switch_page(page) if page else app).run()


def said(app: AppTest, kind: str) -> str:
    """Return what all boxes of a kind show: ``warning``, ``error`` or ``info``."""
    boxes = {"warning": app.warning, "error": app.error, "info": app.info}[kind]
    return "\n".join(str(box.value) for box in boxes).replace("\\", "")  # of Markdown


def press(app: AppTest, key: str) -> AppTest:
    """Press a button and look again."""
    return app.button(key=key).click().run()


def panels(app: AppTest) -> list[str]:
    """Return what each live panel on the page was told, as JSON."""
    told = [element.proto.json for element in app.get("bidi_component")]
    return [text for text in told if "run" in json.loads(text)]


def finished_run() -> Run:
    """Wait for the run that trains, and return it."""
    run = shared_run_manager().active_run()
    assert run is not None, "nothing trains"
    assert run.join(60)
    return run
