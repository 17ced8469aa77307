"""A recorded race: written, read, played, and never taken for one that runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.cli import exchange as command
from effcore.energy.arithmetic import has_joules
from effcore.insight.race_recording import (
    RaceRecording,
    RaceRecordingError,
    RaceStage,
    RecordedRaceRun,
    race_stage,
    read_race_recording,
    recording_to_json,
    view_pictures,
)
from effcore.records import EnergyQuality, RunStatus, Snapshot
from effcore.testing.tiny_task import tiny_task
from pages.ui.assets import RACE_RECORDING
from tests.fakes import view
from tests.insight.races import race

PICTURE = {"reconstruction": "data:image/jpeg;base64,AAAA"}


def take(look: Snapshot) -> RecordedRaceRun:
    """A run of 20 steps in two seconds, with the end at that time."""
    assert look.end is not None
    return RecordedRaceRun(replace(look, end=replace(look.end, seconds=2.0)), ((0.5, PICTURE),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    dense, efficient = race()
    where: dict[str, str | float] = {"date": "2026-11-26", "cpu": "a processor", "cores": 2}
    path = tmp_path / "race.json"
    path.write_text(recording_to_json(RaceRecording(take(dense), take(efficient), where)))
    return path


def test_what_was_measured_elsewhere_is_recorded_here(file: Path) -> None:
    recording = read_race_recording(file)
    for scene in recording.scenes_at(1e9):
        assert scene.snapshot.energy.quality is EnergyQuality.RECORDED
        assert scene.snapshot.energy.scope.startswith("another machine's")
        assert scene.snapshot.energy.joules == 10.0


def test_it_plays_in_its_own_time(file: Path) -> None:
    recording = read_race_recording(file)
    assert recording.seconds == 4.0
    assert not recording.is_machine_busy
    loaded = recording._replace(circumstances={"load_at_start": 1.0, "load_at_end": 3.5})
    assert loaded.is_machine_busy
    dense, efficient = recording.scenes_at(1.0)
    assert dense.snapshot.steps_done == 10
    assert dense.snapshot.status is RunStatus.RUNNING
    assert dense.snapshot.end is None
    assert dense.pictures == PICTURE
    assert dense.snapshot.energy.joules == pytest.approx(1.0)
    assert (efficient.snapshot.status, efficient.snapshot.steps_done) == (RunStatus.QUEUED, 0)
    assert not has_joules(efficient.snapshot.energy)
    assert recording.scenes_at(0.2)[0].pictures == {}
    stages = [
        race_stage(*(scene.snapshot for scene in recording.scenes_at(at))) for at in (0.0, 3.0, 4.0)
    ]
    assert stages == [RaceStage.QUESTION, RaceStage.EFFICIENT, RaceStage.RESULT]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "it is 'other'"),
        ({"version": 2}, "version 2"),
        ({"runs": {}}, "dense"),
        ({"circumstances": {"x": [1]}}, "other than texts"),
    ],
)
def test_what_is_no_recording_is_refused(file: Path, change: dict[str, object], words: str) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RaceRecordingError, match=words):
        read_race_recording(file)


def test_damage_within_a_run_is_refused(file: Path) -> None:
    whole = json.loads(file.read_text())
    for name, value in (("steps", [[1.0]]), ("pictures", [[0.0, {"a": "javascript:1"}]])):
        broken = json.loads(json.dumps(whole))
        broken["runs"]["dense"][name] = value
        file.write_text(json.dumps(broken))
        with pytest.raises(RaceRecordingError, match="not a valid race recording"):
            read_race_recording(file)
    with pytest.raises(RaceRecordingError, match="no recording other.json"):
        read_race_recording(file.parent / "other.json")


def test_the_one_that_comes_with_the_project_is_whole_small_and_says_where_it_ran() -> None:
    assert RACE_RECORDING.stat().st_size < 1_000_000
    recording = read_race_recording(RACE_RECORDING)
    assert {"date", "cpu", "cores", "torch", "effcore"} <= set(recording.circumstances)
    dense, efficient = recording.scenes_at(recording.seconds)
    assert race_stage(dense.snapshot, efficient.snapshot) is RaceStage.RESULT
    assert {"reconstruction", "compute"} <= set(efficient.pictures)
    for scene in (dense, efficient):
        assert scene.snapshot.energy.quality is not EnergyQuality.MEASURED
        assert scene.snapshot.end is not None
        assert scene.snapshot.end.flops_spent == pytest.approx(
            scene.snapshot.column("flops")[-1], rel=1e-3
        )
    assert len(recording.efficient.pictures) > 5


def test_pictures_are_made_small_and_anything_else_is_left_out() -> None:
    shown = view()._replace(
        items={
            "reconstruction": np.zeros((8, 16, 3), np.uint8),
            "other": np.zeros((2, 2), np.uint8),
        }
    )
    (name,) = view_pictures(shown, 4)
    assert name == "reconstruction"
    assert view_pictures(None) == {}


def test_a_race_is_recorded_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "warm_up_once", lambda config: None)
    with tiny_task():
        file, rest = tmp_path / "race.json", "--task tiny --epochs 1 --device cpu --threads 1"
        result = CliRunner().invoke(main, ["record", str(file), *rest.split()])
        assert result.exit_code == 0, result.output
        recording = read_race_recording(file)
    assert recording.dense.snapshot.config.selection == "dense"
    assert recording.efficient.snapshot.config.budget == 0.6
    assert isinstance(recording.circumstances["load_at_end"], float)
    assert recording.scenes_at(recording.seconds)[1].snapshot.status is RunStatus.FINISHED


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}/no/race.json", "cannot be written"),
        ("{}/race.json --task nosuch", "unknown task"),
        ("{}/race.json --policy dense --budget 1", "skips nothing"),
    ],
)
def test_what_cannot_be_recorded_is_said_before_anything_trains(
    tmp_path: Path, line: str, words: str
) -> None:
    result = CliRunner().invoke(main, ["record", *line.format(tmp_path).split()])
    assert result.exit_code == 2
    assert words in result.stderr
