"""Taking a run along by the commands, and what only a whole program can refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from effcore.__main__ import main
from effcore.runs.exchange import BundleError, import_bundle
from effcore.store import Store
from tests.store.bundles import RUN, bundle_of, full_run, setting, with_json
from tests.store.samples import END, opened


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_run_goes_out_and_comes_in_by_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    full_run(store)
    store.close()
    file = tmp_path / "run.zip"
    out = call("export", RUN, file)
    assert (out.exit_code, out.stdout) == (0, f"{file}\n")
    again = call("export", RUN, file)
    assert again.exit_code == 1
    assert "run.zip exists already: choose another name" in again.output
    taken = call("import", file)
    assert taken.exit_code == 1
    assert "under a fresh id (--fresh-id)" in taken.output
    fresh = call("import", file, "--fresh-id")
    assert fresh.exit_code == 0
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "elsewhere"))
    assert call("import", file).stdout == f"{RUN}\n"
    with opened(tmp_path / "elsewhere") as other:
        assert other.load_snapshot(RUN).end == END
        assert other.summary(RUN).labels.tags == ("a b", "c")


def test_the_commands_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.zip"
    unknown = call("export", RUN, file)
    assert unknown.exit_code == 1
    assert "unknown run" in unknown.output
    assert not file.exists(), "nothing is left of an export that fails"
    assert "x.zip cannot be read: No such file" in call("import", file).output
    file.write_bytes(b"nothing")
    refused = call("import", file)
    assert refused.exit_code == 1
    assert "x.zip cannot be imported: it is no zip" in refused.output
    assert "cannot be written" in call("export", RUN, tmp_path / "no" / "y.zip").output
    (tmp_path / "home").touch()
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "home"))
    for words in (("export", RUN, file), ("import", file)):
        assert "set EFFCORE_HOME to a writable folder" in call(*words).output


@pytest.mark.parametrize("field", ["task", "model", "selection", "update", "intensity"])
def test_a_run_of_something_unknown_is_refused_by_name(field: str, tmp_path: Path) -> None:
    with opened(tmp_path / "one") as store:
        full_run(store)
        raw = with_json(bundle_of(store, RUN), "config.json", setting(field, to="unheard-of"))
    with opened(tmp_path / "two") as other:
        with pytest.raises(BundleError, match="unheard-of.*install it"):
            import_bundle(other, raw)
        assert other.runs() == []
