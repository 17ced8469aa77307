from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effcore.events import RunStatus, Snapshot
from effcore.stream import channel as module
from effcore.stream.channel import QUEUE, Channel, Viewer
from effcore.stream.frames import decode
from tests.fakes import ESTIMATED, FakeRun, FakeSource, histogram, snapshot, view


def watch(run: FakeRun, *others: FakeRun) -> Channel:
    return Channel(run, FakeSource(run, *others).get)


def header_of(frame: bytes | str | None) -> dict[str, Any]:
    assert isinstance(frame, bytes)
    return decode(frame)[0]


def grown(look: Snapshot, n: int) -> Snapshot:
    more = snapshot(n)
    return replace(look, steps=more.steps, power=more.power)


def test_a_tick_holds_what_is_new_since_the_last() -> None:
    run = FakeRun(snapshot(20))
    channel = watch(run)
    run.look = grown(run.look, 25)
    header, arrays = decode(channel.tick() or b"")
    assert (header["kind"], header["from"], header["to"]) == ("delta", [20, 2, 21], [25, 2, 26])
    assert arrays["steps"][0].tolist() == [21, 22, 23, 24, 25]
    assert header["status"]["step"] == 25
    assert not {"marks", "histogram", "view"} & header.keys()


def test_nothing_new_sends_nothing_until_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = watch(FakeRun())
    now = 100.0
    monkeypatch.setattr("effcore.stream.channel.time.monotonic", lambda: now)
    assert channel.tick() is not None
    assert channel.tick() is None
    now += module.HEARTBEAT_S
    assert header_of(channel.tick())["status"]["step"] == 20


def test_distribution_and_pictures_are_sent_only_when_they_change() -> None:
    run = FakeRun()
    channel = watch(run)
    run.look = replace(run.look, histogram=histogram(), view=view())
    header, arrays = decode(channel.tick() or b"")
    assert {"histogram", "view"} <= header.keys()
    assert arrays["view/picture"].shape == (2, 2, 3)
    run.look = grown(run.look, 22)
    assert not {"histogram", "view"} & header_of(channel.tick()).keys()


def test_a_knob_change_is_marked_and_placed_again_once_its_step_is_known() -> None:
    run = FakeRun()
    channel = watch(run)
    run.apply(23, "mass", 0.2)
    assert header_of(channel.tick())["marks"][0]["x"]["step"] == 20
    run.look = grown(run.look, 24)
    header = header_of(channel.tick())
    assert header["marks"][0]["x"]["step"] == 23
    assert header["status"]["knobs"]["mass"] == 0.2
    run.look = grown(run.look, 25)
    assert "marks" not in header_of(channel.tick())


def test_a_snapshot_goes_on_with_the_next_tick() -> None:
    run = FakeRun(replace(snapshot(), histogram=histogram(), view=view()))
    channel = watch(run)
    run.look = grown(run.look, 30)
    header, arrays = decode(channel.snapshot_frame())
    assert header["to"] == [20, 2, 21]  # what the last tick saw, not what there is by now
    assert header_of(channel.tick())["from"] == header["to"]
    assert {"steps", "evals", "power", "histogram", "view/picture"} == arrays.keys()


def test_the_reference_is_found_and_sent_once() -> None:
    dense = FakeRun(snapshot(50, run_id="dense", status=RunStatus.FINISHED))
    run = FakeRun(snapshot(reference_id="dense"))
    channel, viewer = watch(run, dense), Viewer()
    hello, first = viewer.take(channel)
    assert "ref_steps" in decode(first if isinstance(first, bytes) else b"")[1]
    charts = json.loads(hello)["hello"]["charts"]
    assert charts["loss"]["data"][0]["meta"]["table"] == "ref_steps"
    viewer.refresh()
    (again,) = viewer.take(channel)
    assert "ref_steps" not in decode(again if isinstance(again, bytes) else b"")[1]


def test_a_missing_reference_is_no_error() -> None:
    run = FakeRun(snapshot(reference_id="gone"))
    assert header_of(watch(run).snapshot_frame())["kind"] == "snapshot"


def test_hello_describes_knobs_charts_and_axes() -> None:
    hello = json.loads(watch(FakeRun()).hello())["hello"]
    assert [k["name"] for k in hello["knobs"]] == ["mass", "revisit"]
    assert set(hello["charts"]) == {"loss", "skip", "power", "histogram"}
    assert [a["id"] for a in hello["axes"]] == ["step", "epochs", "seconds", "flops", "joules"]


def test_a_slow_viewer_gets_a_snapshot_instead_of_a_queue() -> None:
    channel, viewer = watch(FakeRun()), Viewer()
    viewer.take(channel)
    for number in range(QUEUE + 3):
        viewer.offer(b"frame %d" % number)
    (only,) = viewer.take(channel)
    assert header_of(only)["kind"] == "snapshot"
    viewer.offer(b"next")
    assert viewer.take(channel) == [b"next"]


def test_charts_are_defined_again_when_energy_turns_out_otherwise() -> None:
    run = FakeRun()
    channel, viewer = watch(run), Viewer()
    channel.viewers.add(viewer)
    viewer.take(channel)
    run.look = replace(run.look, energy=ESTIMATED)
    channel.tick()
    hello, snapshot_frame = viewer.take(channel)
    assert "hello" in json.loads(hello)
    assert header_of(snapshot_frame)["kind"] == "snapshot"


def test_only_who_asked_is_told_that_a_knob_is_in_force() -> None:
    run = FakeRun()
    channel, asker, other = watch(run), Viewer(), Viewer()
    channel.viewers |= {asker, other}
    for viewer in (asker, other):
        viewer.take(channel)
    asker.asked("mass", 0.2, 7)
    run.apply(21, "mass", 0.3)  # somebody else's value
    channel.tick()
    assert asker.take(channel) == []
    run.apply(22, "mass", 0.2)
    channel.tick()
    (text,) = asker.take(channel)
    applied = {"name": "mass", "value": 0.2, "step": 22, "seq": 7}
    assert json.loads(text) == {"applied": applied}
    assert other.take(channel) == []


def test_pumping_ends_with_the_last_viewer() -> None:
    async def scenario() -> None:
        channel, viewer = watch(FakeRun()), Viewer()
        viewer.take(channel)
        viewer.wake.clear()
        channel.viewers.add(viewer)
        pump = asyncio.create_task(channel.pump())
        await asyncio.wait_for(viewer.wake.wait(), 5)
        channel.viewers.clear()
        await asyncio.wait_for(pump, 5)

    asyncio.run(scenario())


def test_a_run_that_cannot_be_read_closes_its_viewers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Snapshot:
        raise OSError("the disk is gone")

    run = FakeRun()
    channel, viewer = watch(run), Viewer()
    channel.viewers.add(viewer)
    monkeypatch.setattr(run, "snapshot", fail)
    asyncio.run(channel.pump())
    assert viewer.closed
    assert "the disk is gone" in caplog.text


def test_replies_wait_for_a_browser_that_does_not_take_them() -> None:
    async def scenario() -> None:
        channel, viewer = watch(FakeRun()), Viewer()
        for _ in range(module.REPLIES):
            await viewer.tell("x")
        held = asyncio.create_task(viewer.tell("y"))
        await asyncio.sleep(0)
        assert not held.done()
        viewer.take(channel)
        await asyncio.wait_for(held, 5)

    asyncio.run(scenario())


def test_a_window_has_the_resolution_of_its_range() -> None:
    channel = watch(FakeRun(snapshot(5000)))
    header, arrays = decode(channel.window_frame("step", 1000, 1100))
    assert (header["kind"], header["axis"]) == ("window", "step")
    np.testing.assert_array_equal(arrays["steps"][0], np.arange(999, 1102))
