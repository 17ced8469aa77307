from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from effcore.live import startup
from effcore.live.startup import SharedRunSource
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
