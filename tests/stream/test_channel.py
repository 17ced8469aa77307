from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effcore.knobs import KnobError
from effcore.records import KnobChange, RunStatus, Snapshot
from effcore.stream import channel as module
from effcore.stream.channel import QUEUE, Channel, Viewer
from effcore.stream.frames import decode
from tests.fakes import ESTIMATED, FakeRun, FakeSource, histogram, snapshot, view


def watch(run: FakeRun, *others: FakeRun) -> Channel:
    return Channel(run, FakeSource(run, *others).get)


def tick(channel: Channel) -> bytes | None:
    return channel.tick(*channel.read())


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
    header, arrays = decode(tick(channel) or b"")
    assert (header["kind"], header["from"], header["to"]) == ("delta", [20, 2, 21], [25, 2, 26])
    assert arrays["steps"][0].tolist() == [21, 22, 23, 24, 25]
    assert header["status"]["step"] == 25
    assert not {"marks", "histogram", "view"} & header.keys()


def test_nothing_new_sends_nothing_until_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = watch(FakeRun())
    now = 100.0
    monkeypatch.setattr("effcore.stream.channel.time.monotonic", lambda: now)
    assert tick(channel) is not None
    assert tick(channel) is None
    now += module.HEARTBEAT_S
    assert header_of(tick(channel))["status"]["step"] == 20


def test_distribution_and_pictures_are_sent_only_when_they_change() -> None:
    run = FakeRun()
    channel = watch(run)
    run.look = replace(run.look, histogram=histogram(), view=view())
    header, arrays = decode(tick(channel) or b"")
    assert {"histogram", "view"} <= header.keys()
    assert arrays["view/picture/pixels"].shape == (2, 2, 3)
    run.look = grown(run.look, 22)
    assert not {"histogram", "view"} & header_of(tick(channel)).keys()


def test_a_knob_change_is_marked_and_placed_again_once_its_step_is_known() -> None:
    run = FakeRun()
    channel = watch(run)
    run.apply(23, "mass", 0.2)
    assert header_of(tick(channel))["marks"][0]["x"]["step"] == 20
    run.look = grown(run.look, 24)
    header = header_of(tick(channel))
    assert header["marks"][0]["x"]["step"] == 23
    assert header["status"]["knobs"]["mass"] == 0.2
    run.look = grown(run.look, 25)
    assert "marks" not in header_of(tick(channel))


def test_a_snapshot_goes_on_with_the_next_tick() -> None:
    run = FakeRun(replace(snapshot(), histogram=histogram(), view=view()))
    channel = watch(run)
    run.look = grown(run.look, 30)
    header, arrays = decode(channel.snapshot_frame())
    assert header["to"] == [20, 2, 21]  # what the last tick saw, not what there is by now
    assert header_of(tick(channel))["from"] == header["to"]
    assert {"steps", "evals", "power", "histogram"} == arrays.keys()
    (pictures,) = channel.view_frames()
    assert header_of(pictures)["kind"] == "view"
    assert decode(pictures)[1].keys() == {"view/picture/pixels"}


def test_the_command_is_sent_when_it_changed_and_not_ten_times_a_second() -> None:
    run = FakeRun()
    channel = watch(run)
    assert decode(channel.snapshot_frame())[0]["command"] == run.command()
    run.look = grown(run.look, 25)
    assert "command" not in header_of(tick(channel))
    run.look = replace(run.look, changes=(KnobChange(5, "mass", 0.5),))
    assert header_of(tick(channel))["command"] == run.command()


def test_the_pictures_follow_a_snapshot_where_there_are_any() -> None:
    viewer, bare = Viewer(), Viewer()
    frames = viewer.take(watch(FakeRun(replace(snapshot(), view=view()))))
    assert [header_of(frame)["kind"] for frame in frames[1:]] == ["snapshot", "view"]
    assert len(bare.take(watch(FakeRun()))) == 2


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


def test_a_missing_reference_is_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, run, runs = 100.0, FakeRun(snapshot(reference_id="late")), list[FakeRun]()
    monkeypatch.setattr("effcore.stream.channel.time.monotonic", lambda: now)
    looked: list[str] = []

    def find(run_id: str) -> FakeRun | None:
        looked.append(run_id)
        return runs[0] if runs else None

    channel = Channel(run, find)
    (viewer,) = watchers(channel, 1)
    for _ in range(5):
        tick(channel)
    assert looked == ["late"]
    runs.append(FakeRun(snapshot(50, run_id="late")))
    now += module.RETRY_S
    for _ in range(5):
        tick(channel)
        now += module.RETRY_S
    assert looked == ["late", "late"]  # once found it is kept
    *_, fresh = viewer.take(channel)
    assert "ref_steps" in decode(fresh if isinstance(fresh, bytes) else b"")[1]


def test_a_reference_that_cannot_be_read_does_not_hide_the_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("effcore.stream.channel.time.monotonic", lambda: now)
    channel = watch(FakeRun(snapshot(reference_id="broken")))  # the source fails for this id
    for _ in range(3):
        now += module.RETRY_S
        assert header_of(tick(channel))["status"]["step"] == 20
    assert [r.message for r in caplog.records] == [
        "the reference broken cannot be read: the disk is gone"
    ]


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
    tick(channel)
    hello, snapshot_frame = viewer.take(channel)
    assert "hello" in json.loads(hello)
    assert header_of(snapshot_frame)["kind"] == "snapshot"


def watchers(channel: Channel, number: int) -> list[Viewer]:
    """Viewers of a channel that have taken what there was."""
    viewers = [Viewer() for _ in range(number)]
    channel.viewers |= set(viewers)
    for viewer in viewers:
        viewer.take(channel)
    return viewers


def told(viewer: Viewer, channel: Channel) -> list[tuple[object, ...]]:
    """Which of its requests a viewer is told to be answered: number, value and step."""
    replies = [json.loads(text)["applied"] for text in viewer.take(channel)]
    return [(reply["seq"], reply["value"], reply["step"]) for reply in replies]


def test_only_who_asked_is_told_that_a_knob_is_in_force() -> None:
    run = FakeRun()
    channel = watch(run)
    asker, other = watchers(channel, 2)
    assert channel.ask(asker, "mass", 0.2, 7) == 1
    run.apply(22, "revisit", 3)
    tick(channel)
    assert asker.take(channel) == []
    run.apply(23, "mass", 0.2)
    tick(channel)
    (text,) = asker.take(channel)
    applied = {"name": "mass", "value": 0.2, "step": 23, "seq": 7}
    assert json.loads(text) == {"applied": applied}
    assert other.take(channel) == []


def test_a_request_that_another_tab_overtook_is_answered_with_what_came_instead() -> None:
    run = FakeRun()
    channel = watch(run)
    first, second = watchers(channel, 2)
    channel.ask(first, "mass", 0.3, 1)  # while the run is paused …
    channel.ask(second, "mass", 0.6, 2)
    run.apply(21, "mass", 0.6)  # … of which it takes the last
    tick(channel)
    assert told(first, channel) == [(1, 0.6, 21)]
    assert told(second, channel) == [(2, 0.6, 21)]


def test_of_a_drag_only_what_was_taken_is_answered_and_once_per_viewer() -> None:
    run = FakeRun()
    channel = watch(run)
    (viewer,) = watchers(channel, 1)
    for seq, value in enumerate((0.1, 0.2, 0.3)):
        channel.ask(viewer, "mass", value, seq)
    run.apply(21, "mass", 0.2)  # the third came too late for this batch
    tick(channel)
    assert told(viewer, channel) == [(1, 0.2, 21)]
    run.apply(22, "mass", 0.3)
    tick(channel)
    assert told(viewer, channel) == [(2, 0.3, 22)]


def test_a_change_that_nobody_here_asked_for_answers_what_was_asked_before_it() -> None:
    run = FakeRun()
    channel = watch(run)
    (viewer,) = watchers(channel, 1)
    channel.ask(viewer, "mass", 0.3, 5)
    run.apply(21, "mass", 0.9)
    tick(channel)
    assert told(viewer, channel) == [(5, 0.9, 21)]


def test_a_refused_request_awaits_no_answer() -> None:
    run = FakeRun()
    channel = watch(run)
    (viewer,) = watchers(channel, 1)
    with pytest.raises(KnobError):
        channel.ask(viewer, "mass", 7.0, 1)
    run.apply(21, "mass", 0.2)
    tick(channel)
    assert told(viewer, channel) == []


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


def test_a_run_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in: set[int] = set()
    run = FakeRun()

    async def scenario() -> None:
        channel, viewer = watch(run), Viewer()
        channel.viewers.add(viewer)
        monkeypatch.setattr(run, "snapshot", read)
        viewer.take(channel)
        viewer.wake.clear()
        pump = asyncio.create_task(channel.pump())
        await asyncio.wait_for(viewer.wake.wait(), 5)
        channel.viewers.clear()
        await asyncio.wait_for(pump, 5)

    def read() -> Snapshot:
        read_in.add(threading.get_ident())
        return run.look

    asyncio.run(scenario())
    assert read_in
    assert threading.get_ident() not in read_in


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


def test_viewers_of_an_interrupted_run_come_back_once_it_is_resumed() -> None:
    left = FakeRun(replace(snapshot(20), status=RunStatus.INTERRUPTED))
    found = [left]
    channel = Channel(left, lambda run_id: found[0])
    assert not channel.superseded(left.look)
    channel = Channel(left, lambda run_id: found[0])
    found[0] = FakeRun(snapshot(20))
    assert not channel.superseded(snapshot(20)), "one that trains is not asked for"
    viewer = Viewer()
    channel.viewers.add(viewer)
    asyncio.run(channel.pump())
    assert viewer.closed
