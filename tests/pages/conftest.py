"""What several tests of pages begin with."""

from __future__ import annotations

import pytest

from effcore.energy.sources.survey import SourceStatus
from pages.ui.energy import sources as sources_module
from tests.pages.energy import DENIED, MODEL


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[SourceStatus]:
    """What the machine has; a test may change it."""
    found = [DENIED, MODEL]
    monkeypatch.setattr(sources_module, "survey_sources", lambda: found)
    sources_module.cached_source_survey.clear()
    return found
