"""Bundles that are torn, wrong or hostile: each refused with its reason, and nothing written."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from effcore.store import Store
from effcore.store.bundle import MANIFEST_MEMBER
from effcore.store.bundle_import import (
    BundleError,
    energy_of_other_machine,
    import_run,
    read_bundle,
)
from effcore.store.run_files import epoch_record_bytes
from tests.store.bundles import (
    bundle_of,
    full_run,
    members_of,
    pass_losses,
    patched,
    setting,
    with_json,
    with_member,
    zipped,
)
from tests.store.samples import END, ESTIMATE, opened

LOSSES: Any = pass_losses(6, 0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with opened(tmp_path_factory.mktemp("whole")) as store:
        return bundle_of(store, full_run(store))


def link(raw: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        for name, data in members_of(raw).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == "steps.f64" else 0o100644) << 16
            bundle.writestr(info, data)
    return file.getvalue()


def twice(raw: bytes) -> bytes:
    one = zipped(members_of(raw) | {"evals.f6x": b""})
    return one.replace(b"evals.f6x", b"evals.f64")


def also(name: str, data: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda raw: zipped(members_of(raw) | {name: data})


def without(name: str) -> Callable[[bytes], bytes]:
    return lambda raw: zipped({n: data for n, data in members_of(raw).items() if n != name})


def instead(**members: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: with_member(raw, **members)


def said(member: str, *path: Any, to: Any) -> Callable[[bytes], bytes]:
    return lambda raw: with_json(raw, member, setting(*path, to=to))


def rows(columns: int, *values: float) -> bytes:
    table = np.zeros((len(values), columns))
    table[:, 0] = values
    return table.astype("<f8").tobytes()


def npy(*arrays: Any) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array, allow_pickle=True)
    return file.getvalue()


def view(head: Any, *arrays: Any) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return npy(np.frombuffer(text, np.uint8), *arrays)


PICTURE = {"step": 1, "captions": {}, "items": {"p": {"kind": "picture", "arrays": ["pixels"]}}}
POINTS = {"kind": "points", "groups": ["a"], "arrays": ["xy", "group", "state"]}
_BYTES = np.zeros(2, np.uint8)

# What is done to a whole bundle, and the words that the refusal must have.
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda raw: b"", "no zip"),
    "not a zip": (lambda raw: b"<html>nothing</html>" * 50, "no zip file, or it is cut off"),
    "only its beginning": (lambda raw: raw[: len(raw) // 2], "it is cut off"),
    "its middle missing": (lambda raw: raw[:200] + raw[900:], "damaged or no zip"),
    "hidden behind something else": (lambda raw: b"GIF89a" + raw, "no zip"),
    "too large": (lambda raw: raw + bytes(1000), "more than the .* allowed"),
    "a path upwards": (also("../../effcore.sqlite"), "has a path outside the bundle"),
    "a path upwards, as Windows has it": (also("..\\..\\x"), "has a path outside the bundle"),
    "an absolute path": (also("/etc/passwd"), "has a path outside the bundle"),
    "a drive": (also("C:\\x"), "has a path outside the bundle"),
    "a folder": (also("runs/"), "does not belong in a bundle"),
    "a zip in it": (also("inner.zip", zipped({"a": b""})), "does not belong in a bundle"),
    "a pickle": (also("model.pkl", b"cos\nsystem\n(S'x'\ntR."), "does not belong"),
    "a script for a name": (also("<script>alert(1)</script>"), "does not belong"),
    "a name with a NUL": (
        lambda raw: also("steps.f64_x")(raw).replace(b"f64_x", b"f64\0x"),
        "does not belong",
    ),
    "a name that is no UTF-8": (
        lambda raw: also("éé.f64")(raw).replace("éé".encode(), b"\xff\xfe\xff\xfe"),
        "damaged or no zip",
    ),
    "a link": (link, "is a link"),
    "a file twice": (twice, "holds evals.f64 more than once"),
    "no manifest": (without(MANIFEST_MEMBER), f"lacks {MANIFEST_MEMBER}"),
    "no steps": (without("steps.f64"), "lacks steps.f64"),
    "nothing": (lambda raw: zipped({}), "no zip file, or it is cut off|lacks"),
    "encrypted": (
        lambda raw: patched(patched(raw, b"PK\1\2", 8, "<H", 1), b"PK\3\4", 6, "<H", 1),
        "is encrypted",
    ),
    "packed otherwise": (
        lambda raw: patched(raw, b"PK\1\2", 10, "<H", 12),
        "unknown compression method",
    ),
    "a bomb that says so": (
        lambda raw: patched(raw, b"PK\1\2", 24, "<I", 2**31),
        "more than the .* allowed",
    ),
    "a bomb in all": (
        lambda raw: patched(raw, b"PK\1\2", 24, "<I", 2**20),
        "damaged|does not have the size",
    ),
    "a bomb that does not": (lambda raw: patched(raw, b"PK\1\2", 24, "<I", 3), "damaged"),
    "thousands of files": (lambda raw: patched(raw, b"PK\5\6", 10, "<H", 60_000), "holds 60000"),
    "a list without end": (
        lambda raw: patched(raw, b"PK\5\6", 12, "<I", 2**30),
        "files, and a bundle has at most",
    ),
    "a list elsewhere": (
        lambda raw: raw[:-22] + b"PK\6\7" + bytes(16) + raw[-22:],
        "files, and a bundle has at most",
    ),
    "other bytes": (
        lambda raw: zipped(members_of(raw) | {"steps.f64": bytes(64)}),
        "checksum differs",
    ),
    "files that are not listed": (
        lambda raw: zipped(
            members_of(raw)
            | {
                MANIFEST_MEMBER: json.dumps(
                    json.loads(members_of(raw)[MANIFEST_MEMBER]) | {"members": {}}
                ).encode()
            }
        ),
        "lists other files",
    ),
    "a manifest that is a list": (
        lambda raw: with_json(raw, MANIFEST_MEMBER, lambda _: []),
        "does not describe a run",
    ),
    "another format": (said(MANIFEST_MEMBER, "format", to="other"), "does not describe a run"),
    "a version to come": (said(MANIFEST_MEMBER, "version", to=2), "version is 2.*: update Effcore"),
    "a version that is none": (said(MANIFEST_MEMBER, "version", to=True), "version is True"),
    "an id that is a path": (said(MANIFEST_MEMBER, "run_id", to="../../x"), "for a run's id"),
    "an id that is none": (
        said(MANIFEST_MEMBER, "run_id", to=7),
        "Expected `str`, got `int` - at `\\$.run_id`",
    ),
    "a reference that is a path": (
        said(MANIFEST_MEMBER, "reference_id", to="/x"),
        "for a run's id",
    ),
    "a run that trains": (
        said(MANIFEST_MEMBER, "status", to="running"),
        "only a run that has ended",
    ),
    "a status that is none": (
        said(MANIFEST_MEMBER, "status", to="won"),
        "Invalid enum value 'won' - at `\\$.status`",
    ),
    "progress beyond its end": (
        said(MANIFEST_MEMBER, "progress", to=2),
        "<= 1.0 - at `\\$.progress`",
    ),
    "a time beyond all time": (
        said(MANIFEST_MEMBER, "created_unix", to=1e30),
        "<= .* - at `\\$.created_unix`",
    ),
    "a flag that is none": (
        said(MANIFEST_MEMBER, "exploratory", to="no"),
        "Expected `bool`, got `str` - at `\\$.exploratory`",
    ),
    "tags that are none": (
        said(MANIFEST_MEMBER, "labels", "tags", to=[1]),
        "Expected `str`, got `int` - at `\\$.labels.tags",
    ),
    "a name without end": (
        said(MANIFEST_MEMBER, "labels", "name", to="x" * 900),
        "at most 80 are allowed",
    ),
    "a name that turns writing": (
        said(MANIFEST_MEMBER, "labels", "name", to="a\u202eb"),
        "invisible characters",
    ),
    "half a letter": (
        said(MANIFEST_MEMBER, "labels", "note", to="\ud83d"),
        "holds characters that are not text",
    ),
    "NaN": (instead(changes_json=b'[[1, "mass", NaN]]'), "NaN is not allowed in JSON"),
    "infinity": (instead(changes_json=b'[[1, "mass", -Infinity]]'), "-Infinity is not allowed"),
    "a number too large": (instead(changes_json=b'[[1, "mass", 1e999]]'), "number is too large"),
    "a whole number too large": (instead(changes_json=b"[" + b"9" * 30 + b"]"), "too large"),
    "a number of 5000 digits": (instead(changes_json=b"[" + b"9" * 5000 + b"]"), "be read"),
    "deep JSON": (instead(events_json=b"[" * 100_000), "too deep"),
    "rather deep JSON": (instead(events_json=b"[" * 99 + b"]" * 99), "too deep"),
    "a text too long": (instead(changes_json=b'["' + b"x" * 30_000 + b'"]'), "too long"),
    "huge JSON": (instead(config_json=b" " * (2 << 20)), "more than the 1,048,576 allowed"),
    "a key twice": (instead(config_json=b'{"task": 1, "task": 2}'), "a key occurs twice"),
    "JSON that is no UTF-8": (instead(config_json=b'{"task": "\xff"}'), "config.json cannot be"),
    "no JSON": (instead(config_json=b"task: digits"), "config.json cannot be read"),
    "a configuration without a task": (
        lambda raw: with_json(raw, "config.json", lambda said: {"changes": said["changes"]}),
        "RunConfig is damaged",
    ),
    "a number that is a text": (said("config.json", "epochs", to="3"), "has epochs='3'"),
    "epochs that count down": (
        said("config.json", "epochs", to=-3),
        "epochs=-3: expected at least 1",
    ),
    "a task that is a script": (said("config.json", "task", to="<script>"), "for a task"),
    "a knob that is a script": (said("config.json", "knobs", to={"<b>": 1}), "name of a knob"),
    "a device that is a command": (said("config.json", "device", to="cpu; rm"), "for a device"),
    "a budget that is no share": (said("config.json", "budget", to=7.0), "expected a share"),
    "a change before the start": (
        said("config.json", "changes", to=[[-1, "mass", 1]]),
        "negative step",
    ),
    "an event that is none": (said("events.json", "shell", to={}), "'shell': expected start"),
    "events that are none": (instead(events_json=b"[]"), "is not a JSON object of events"),
    "a quality that is none": (said("events.json", "energy", "quality", to="best"), "Energy is"),
    "joules below nothing": (
        said("events.json", "energy", "lo", to=-1.0),
        "lo=-1.0: expected at least 0",
    ),
    "an interval backwards": (said("events.json", "energy", "lo", to=99.0), "above hi"),
    "a link in the joules": (
        said("events.json", "energy", "scope", to="<a href=x>"),
        "expected plain text",
    ),
    "a link for a card": (
        said("events.json", "energy", "card", to="<a href=x>"),
        "expected plain text",
    ),
    "an estimate with a value": (
        said("events.json", "energy", "joules", to=5.0),
        "but has a value",
    ),
    "idle power that is none": (said("events.json", "energy", "idle_w", to=[[1.0]]), "idle power"),
    "idle power backwards": (
        said("events.json", "energy", "idle_w", to=[[3.0, 2.0, 1.0]]),
        "idle power",
    ),
    "idle power for less than no time": (
        said("events.json", "energy", "idle_s", to=[-1.0]),
        "durations for 0 idle readings",
    ),
    "a power limit below nothing": (
        said("events.json", "energy", "power_limit_w", to=-1.0),
        "power_limit_w=-1.0: expected at least 0",
    ),
    "examples below nothing": (said("events.json", "end", "examples_trained", to=-1), "at least 0"),
    "an end of another kind": (
        said("events.json", "end", "status", to="failed"),
        "its end event says failed",
    ),
    "a number that nothing stands for": (
        said("events.json", "end", "metric", to={"nonfinite": "x"}),
        "is not one of nan, inf and -inf",
    ),
    "no number where there must be one": (
        said("events.json", "energy", "lo", to={"nonfinite": "nan"}),
        "Energy is damaged: it has lo=",
    ),
    "phases that are none": (
        said("events.json", "attribution", "phases", 0, "phase", to="lunch"),
        "phases of a run",
    ),
    "bars below nothing": (
        said("events.json", "histogram", "counts", to=[-1, 1]),
        "negative counts",
    ),
    "bars without edges": (said("events.json", "histogram", "counts", to=[1]), "of shape"),
    "no examples": (
        said("events.json", "start", "n_train", to=0),
        "n_train=0: expected at least 1",
    ),
    "a change that is none": (
        instead(changes_json=b'[[1, "mass", "half"]]'),
        "each with step, name and number: Expected `int . float`, got `str`",
    ),
    "a change backwards": (
        instead(changes_json=b'[[-1, "mass", 1]]'),
        "has a knob change at a negative step",
    ),
    "changes that are none": (instead(changes_json=b'{"a": 1}'), "is not a list of knob changes"),
    "a row and a half": (instead(steps_f64=bytes(96)), "96 bytes: expected complete rows of 64"),
    "steps below nothing": (instead(steps_f64=rows(8, -1)), "falls, is negative or is not finite"),
    "steps backwards": (instead(steps_f64=rows(8, 2, 1)), "falls, is negative or is not finite"),
    "steps that are none": (
        instead(evals_f64=rows(6, math.nan)),
        "falls, is negative or is not finite",
    ),
    "power below nothing": (
        instead(power_f64=np.full(7, -1.0).tobytes()),
        "seconds|negative power",
    ),
    "decisions that are none": (instead(decisions_bin=b"PASS" + bytes(9)), "damaged after 0"),
    "decisions below nothing": (
        instead(decisions_bin=b"PASS" + b"\xff" * 8 + bytes(24)),
        "negative counts",
    ),
    "more drawn than there are": (
        instead(decisions_bin=b"PASS" + bytes(16) + b"\x09" + bytes(15)),
        "draws more",
    ),
    "losses that are none": (instead(losses_bin=b"LOSS" + bytes(9)), "damaged after 0 of 13"),
    "losses of examples without end": (
        instead(losses_bin=b"LOSS" + bytes(24) + b"\xff" * 7 + b"\x7f" + bytes(8)),
        "damaged",
    ),
    "losses cut short": (instead(losses_bin=epoch_record_bytes(LOSSES)[:-1]), "damaged after 0"),
    "losses below nothing": (
        instead(losses_bin=epoch_record_bytes(LOSSES._replace(losses_N=-LOSSES.losses_N - 1))),
        "has a negative loss",
    ),
    "losses of other examples": (
        instead(losses_bin=epoch_record_bytes(pass_losses(6, 0, 16))),
        "of 16 examples, but the run is not",
    ),
    "losses of examples that change": (
        instead(losses_bin=epoch_record_bytes(LOSSES) + epoch_record_bytes(pass_losses(7, 1, 16))),
        "of 1437 and of 16 examples",
    ),
    "losses backwards": (
        instead(losses_bin=epoch_record_bytes(pass_losses(9, 1)) + epoch_record_bytes(LOSSES)),
        "records out of order",
    ),
    "more considered than there are": (
        instead(losses_bin=epoch_record_bytes(LOSSES._replace(visited=1438))),
        "considers 1438 of 1437",
    ),
    "a pickle in the view": (
        instead(view_npy=npy(np.array([{}], dtype=object))),
        "neither uint8 nor float32",
    ),
    "a view larger than it is": (
        instead(view_npy=npy(_BYTES).replace(b"(2,), }", b"(9" + b"9" * 9 + b",), }")[:128]),
        "neither uint8|larger",
    ),
    "a view without end": (instead(view_npy=npy(_BYTES)[:-1]), "larger arrays than it holds"),
    "a view of doubles": (instead(view_npy=npy(np.zeros(2))), "neither uint8 nor float32"),
    "a view without a head": (instead(view_npy=view(b"{")), "its view|Expecting"),
    "a view without end of steps": (
        instead(view_npy=view(b'{"step": 1e999, "captions": {}, "items": {}}')),
        "its view is damaged",
    ),
    "a view that is deep": (instead(view_npy=view(b"[" * 100_000)), "its view is damaged"),
    "a picture that is a line": (instead(view_npy=view(PICTURE, _BYTES)), "is not a picture"),
    "points of no group": (
        instead(
            view_npy=view(
                {**PICTURE, "items": {"p": POINTS}},
                np.zeros((2, 2), np.float32),
                _BYTES + 9,
                _BYTES,
            )
        ),
        "without a name",
    ),
    "points that are none": (
        instead(
            view_npy=view(
                {**PICTURE, "items": {"p": POINTS}},
                np.full((2, 2), np.nan, np.float32),
                _BYTES,
                _BYTES,
            )
        ),
        "is not a scatter plot",
    ),
    "a view of another kind": (
        instead(view_npy=view({**PICTURE, "items": {"p": {"kind": "html", "arrays": []}}})),
        "'html' is not known",
    ),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, good: bytes) -> Iterator[Store]:
    """A store with a run that no hostile bundle may touch."""
    with opened(tmp_path_factory.mktemp("kept")) as store:
        full_run(store, run_id="20260202-120000-bbbb")
        yield store


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_with_its_reason_and_nothing_is_written(
    name: str, good: bytes, kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, why = HOSTILE[name]
    if name == "too large":
        monkeypatch.setattr("effcore.store.bundle_import.MAX_BUNDLE_BYTES", len(good))
    if name == "a bomb in all":
        monkeypatch.setattr("effcore.store.bundle_import.MAX_UNPACKED_BYTES", 2**20)
        why = "it unpacks to"
    with pytest.raises(BundleError, match=why) as refused:
        import_run(kept, read_bundle(spoil(good)))
    assert len(str(refused.value)) < 500
    assert [path.name for path in (kept.home / "runs").iterdir()] == ["20260202-120000-bbbb"]
    assert [run.run_id for run in kept.runs()] == ["20260202-120000-bbbb"]
    assert kept.load_snapshot("20260202-120000-bbbb").end == END


def test_the_whole_one_is_not_refused(good: bytes, kept: Store) -> None:
    copy = import_run(kept, read_bundle(with_member(good)))
    assert kept.load_snapshot(copy).energy == energy_of_other_machine(ESTIMATE)
    kept.delete_run(copy)
    shutil.rmtree(kept.home / "runs" / copy, ignore_errors=True)
