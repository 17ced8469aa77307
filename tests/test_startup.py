from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from effcore.bench.app_server import APP_FILE, free_port
from effcore.live import startup
from effcore.live.startup import SharedRunSource, has_person_and_display
from effcore.store import StoreError, new_run_id


def test_the_server_listens_before_torch_is_loaded() -> None:
    """What app.py imports must not import PyTorch; only a fresh process can tell."""
    program = "import sys, app; assert 'torch' not in sys.modules, 'app.py imports torch'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_run_is_active_before_the_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_library_loaded", threading.Event())
    assert SharedRunSource().active_run() is None


def test_a_store_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(startup, "_library_loaded", threading.Event())
    startup._library_loaded.set()
    monkeypatch.setenv("EFFCORE_HOME", __file__)
    assert SharedRunSource().active_run() is None
    with pytest.raises(StoreError):
        SharedRunSource().find_run(new_run_id())


def test_the_browser_is_for_persons_with_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert has_person_and_display()
    monkeypatch.delenv("DISPLAY")
    assert not has_person_and_display(), "a server without a screen"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_person_and_display()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert not has_person_and_display(), "started by a program"


@pytest.mark.slow
def test_the_app_opens_in_the_browser(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no such terminal")
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n', encoding="utf-8")
    browser.chmod(0o755)
    port, (terminal, of_app) = free_port(), pty.openpty()
    words = [sys.executable, "-m", "streamlit", "run", APP_FILE.name, f"--server.port={port}"]
    env = {**os.environ, "DISPLAY": ":0", "BROWSER": f"{browser} %s", "EFFCORE_HOME": str(tmp_path)}
    app = subprocess.Popen(words, cwd=APP_FILE.parent, env=env, stdout=of_app, stderr=of_app)
    try:
        assert opened.read_text(encoding="utf-8") == f"http://127.0.0.1:{port}\n"
    finally:
        app.terminate()
        app.wait(30)
        os.close(terminal)
        os.close(of_app)
