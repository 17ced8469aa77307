from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effcore.knobs import KnobError
from effcore.live import broadcaster as module
from effcore.live.broadcaster import MAX_QUEUED_FRAMES, RunBroadcaster, ViewerQueue
from effcore.live.protocol import decode_frame
from effcore.records import KnobChange, RunStatus, Snapshot
from tests.fakes import ESTIMATED, FakeRun, FakeSource, histogram, snapshot, view


def watch(run: FakeRun, *others: FakeRun) -> RunBroadcaster:
    return RunBroadcaster(run, FakeSource(run, *others).find_run)


def tick(channel: RunBroadcaster) -> bytes | None:
    return channel.next_frame(*channel.read_snapshots())


def header_of(frame: bytes | str | None) -> dict[str, Any]:
    assert isinstance(frame, bytes)
    return decode_frame(frame)[0]


def grown(look: Snapshot, n: int) -> Snapshot:
    more = snapshot(n)
    return replace(look, steps=more.steps, power=more.power)


def test_a_tick_holds_what_is_new_since_the_last() -> None:
    run = FakeRun(snapshot(20))
    channel = watch(run)
    run.look = grown(run.look, 25)
    header, arrays = decode_frame(tick(channel) or b"")
    assert (header["kind"], header["from"], header["to"]) == ("delta", [20, 2, 21], [25, 2, 26])
    assert arrays["steps"][0].tolist() == [21, 22, 23, 24, 25]
    assert header["status"]["step"] == 25
    assert not {"marks", "histogram", "view"} & header.keys()


def test_nothing_new_sends_nothing_until_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = watch(FakeRun())
    now = 100.0
    monkeypatch.setattr("effcore.live.broadcaster.time.monotonic", lambda: now)
    assert tick(channel) is not None
    assert tick(channel) is None
    now += module.HEARTBEAT_S
    assert header_of(tick(channel))["status"]["step"] == 20


def test_distribution_and_pictures_are_sent_only_when_they_change() -> None:
    run = FakeRun()
    channel = watch(run)
    run.look = replace(run.look, histogram=histogram(), view=view())
    header, arrays = decode_frame(tick(channel) or b"")
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
    header, arrays = decode_frame(channel.snapshot_frame())
    assert header["to"] == [20, 2, 21]  # what the last tick saw, not what there is by now
    assert header_of(tick(channel))["from"] == header["to"]
    assert {"steps", "evals", "power", "histogram"} == arrays.keys()
    (pictures,) = channel.view_frames()
    assert header_of(pictures)["kind"] == "view"
    assert decode_frame(pictures)[1].keys() == {"view/picture/pixels"}


def test_the_command_is_sent_when_it_changed_and_not_ten_times_a_second() -> None:
    run = FakeRun()
    channel = watch(run)
    assert decode_frame(channel.snapshot_frame())[0]["command"] == run.reproduction_command()
    run.look = grown(run.look, 25)
    assert "command" not in header_of(tick(channel))
    run.look = replace(run.look, changes=(KnobChange(5, "mass", 0.5),))
    assert header_of(tick(channel))["command"] == run.reproduction_command()


def test_the_pictures_follow_a_snapshot_where_there_are_any() -> None:
    viewer, bare = ViewerQueue(), ViewerQueue()
    frames = viewer.drain_messages(watch(FakeRun(replace(snapshot(), view=view()))))
    assert [header_of(frame)["kind"] for frame in frames[1:]] == ["snapshot", "view"]
    assert len(bare.drain_messages(watch(FakeRun()))) == 2


def test_the_reference_is_found_and_sent_once() -> None:
    dense = FakeRun(snapshot(50, run_id="dense", status=RunStatus.FINISHED))
    run = FakeRun(snapshot(reference_id="dense"))
    channel, viewer = watch(run, dense), ViewerQueue()
    hello, first = viewer.drain_messages(channel)
    assert "ref_steps" in decode_frame(first if isinstance(first, bytes) else b"")[1]
    charts = json.loads(hello)["hello"]["charts"]
    assert charts["loss"]["data"][0]["meta"]["table"] == "ref_steps"
    viewer.queue_snapshot()
    (again,) = viewer.drain_messages(channel)
    assert "ref_steps" not in decode_frame(again if isinstance(again, bytes) else b"")[1]


def test_a_missing_reference_is_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, run, runs = 100.0, FakeRun(snapshot(reference_id="late")), list[FakeRun]()
    monkeypatch.setattr("effcore.live.broadcaster.time.monotonic", lambda: now)
    looked: list[str] = []

    def find(run_id: str) -> FakeRun | None:
        looked.append(run_id)
        return runs[0] if runs else None

    channel = RunBroadcaster(run, find)
    (viewer,) = watchers(channel, 1)
    for _ in range(5):
        tick(channel)
    assert looked == ["late"]
    runs.append(FakeRun(snapshot(50, run_id="late")))
    now += module.REFERENCE_RETRY_S
    for _ in range(5):
        tick(channel)
        now += module.REFERENCE_RETRY_S
    assert looked == ["late", "late"]  # once found it is kept
    *_, fresh = viewer.drain_messages(channel)
    assert "ref_steps" in decode_frame(fresh if isinstance(fresh, bytes) else b"")[1]


def test_a_reference_that_cannot_be_read_does_not_hide_the_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("effcore.live.broadcaster.time.monotonic", lambda: now)
    channel = watch(FakeRun(snapshot(reference_id="broken")))  # the source fails for this id
    for _ in range(3):
        now += module.REFERENCE_RETRY_S
        assert header_of(tick(channel))["status"]["step"] == 20
    assert [r.message for r in caplog.records] == [
        "the reference broken cannot be read: the disk is gone"
    ]


def test_hello_describes_knobs_charts_and_axes() -> None:
    hello = json.loads(watch(FakeRun()).hello_message())["hello"]
    assert [k["name"] for k in hello["knobs"]] == ["mass", "revisit"]
    assert set(hello["charts"]) == {"loss", "skip", "power", "histogram"}
    assert [a["id"] for a in hello["axes"]] == ["step", "epochs", "seconds", "flops", "joules"]


def test_a_slow_viewer_gets_a_snapshot_instead_of_a_queue() -> None:
    channel, viewer = watch(FakeRun()), ViewerQueue()
    viewer.drain_messages(channel)
    for number in range(MAX_QUEUED_FRAMES + 3):
        viewer.queue_frame(b"frame %d" % number)
    (only,) = viewer.drain_messages(channel)
    assert header_of(only)["kind"] == "snapshot"
    viewer.queue_frame(b"next")
    assert viewer.drain_messages(channel) == [b"next"]


def test_charts_are_defined_again_when_energy_turns_out_otherwise() -> None:
    run = FakeRun()
    channel, viewer = watch(run), ViewerQueue()
    channel.viewers.add(viewer)
    viewer.drain_messages(channel)
    run.look = replace(run.look, energy=ESTIMATED)
    tick(channel)
    hello, snapshot_frame = viewer.drain_messages(channel)
    assert "hello" in json.loads(hello)
    assert header_of(snapshot_frame)["kind"] == "snapshot"


def watchers(channel: RunBroadcaster, number: int) -> list[ViewerQueue]:
    """Viewers of a channel that have taken what there was."""
    viewers = [ViewerQueue() for _ in range(number)]
    channel.viewers |= set(viewers)
    for viewer in viewers:
        viewer.drain_messages(channel)
    return viewers


def told(viewer: ViewerQueue, channel: RunBroadcaster) -> list[tuple[object, ...]]:
    """Which of its requests a viewer is told to be answered: number, value and step."""
    replies = [json.loads(text)["applied"] for text in viewer.drain_messages(channel)]
    return [(reply["seq"], reply["value"], reply["step"]) for reply in replies]


def test_only_who_asked_is_told_that_a_knob_is_in_force() -> None:
    run = FakeRun()
    channel = watch(run)
    asker, other = watchers(channel, 2)
    assert channel.request_knob(asker, "mass", 0.2, 7) == 1
    run.apply(22, "revisit", 3)
    tick(channel)
    assert asker.drain_messages(channel) == []
    run.apply(23, "mass", 0.2)
    tick(channel)
    (text,) = asker.drain_messages(channel)
    applied = {"name": "mass", "value": 0.2, "step": 23, "seq": 7}
    assert json.loads(text) == {"applied": applied}
    assert other.drain_messages(channel) == []


def test_a_request_that_another_tab_overtook_is_answered_with_what_came_instead() -> None:
    run = FakeRun()
    channel = watch(run)
    first, second = watchers(channel, 2)
    channel.request_knob(first, "mass", 0.3, 1)  # while the run is paused …
    channel.request_knob(second, "mass", 0.6, 2)
    run.apply(21, "mass", 0.6)  # … of which it takes the last
    tick(channel)
    assert told(first, channel) == [(1, 0.6, 21)]
    assert told(second, channel) == [(2, 0.6, 21)]


def test_of_a_drag_only_what_was_taken_is_answered_and_once_per_viewer() -> None:
    run = FakeRun()
    channel = watch(run)
    (viewer,) = watchers(channel, 1)
    for seq, value in enumerate((0.1, 0.2, 0.3)):
        channel.request_knob(viewer, "mass", value, seq)
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
    channel.request_knob(viewer, "mass", 0.3, 5)
    run.apply(21, "mass", 0.9)
    tick(channel)
    assert told(viewer, channel) == [(5, 0.9, 21)]


def test_a_refused_request_awaits_no_answer() -> None:
    run = FakeRun()
    channel = watch(run)
    (viewer,) = watchers(channel, 1)
    with pytest.raises(KnobError):
        channel.request_knob(viewer, "mass", 7.0, 1)
    run.apply(21, "mass", 0.2)
    tick(channel)
    assert told(viewer, channel) == []


def test_pumping_ends_with_the_last_viewer() -> None:
    async def scenario() -> None:
        channel, viewer = watch(FakeRun()), ViewerQueue()
        viewer.drain_messages(channel)
        viewer.has_messages.clear()
        channel.viewers.add(viewer)
        pump = asyncio.create_task(channel.broadcast_until_unwatched())
        await asyncio.wait_for(viewer.has_messages.wait(), 5)
        channel.viewers.clear()
        await asyncio.wait_for(pump, 5)

    asyncio.run(scenario())


def test_a_run_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in: set[int] = set()
    run = FakeRun()

    async def scenario() -> None:
        channel, viewer = watch(run), ViewerQueue()
        channel.viewers.add(viewer)
        monkeypatch.setattr(run, "snapshot", read)
        viewer.drain_messages(channel)
        viewer.has_messages.clear()
        pump = asyncio.create_task(channel.broadcast_until_unwatched())
        await asyncio.wait_for(viewer.has_messages.wait(), 5)
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
    channel, viewer = watch(run), ViewerQueue()
    channel.viewers.add(viewer)
    monkeypatch.setattr(run, "snapshot", fail)
    asyncio.run(channel.broadcast_until_unwatched())
    assert viewer.closed
    assert "the disk is gone" in caplog.text


def test_replies_wait_for_a_browser_that_does_not_take_them() -> None:
    async def scenario() -> None:
        channel, viewer = watch(FakeRun()), ViewerQueue()
        for _ in range(module.MAX_QUEUED_REPLIES):
            await viewer.queue_reply("x")
        held = asyncio.create_task(viewer.queue_reply("y"))
        await asyncio.sleep(0)
        assert not held.done()
        viewer.drain_messages(channel)
        await asyncio.wait_for(held, 5)

    asyncio.run(scenario())


def test_a_window_has_the_resolution_of_its_range() -> None:
    channel = watch(FakeRun(snapshot(5000)))
    header, arrays = decode_frame(channel.window_frame("step", 1000, 1100))
    assert (header["kind"], header["axis"]) == ("window", "step")
    np.testing.assert_array_equal(arrays["steps"][0], np.arange(999, 1102))


def test_viewers_of_an_interrupted_run_come_back_once_it_is_resumed() -> None:
    left = FakeRun(replace(snapshot(20), status=RunStatus.INTERRUPTED))
    found = [left]
    channel = RunBroadcaster(left, lambda run_id: found[0])
    assert not channel.is_superseded(left.look)
    channel = RunBroadcaster(left, lambda run_id: found[0])
    found[0] = FakeRun(snapshot(20))
    assert not channel.is_superseded(snapshot(20)), "one that trains is not asked for"
    viewer = ViewerQueue()
    channel.viewers.add(viewer)
    asyncio.run(channel.broadcast_until_unwatched())
    assert viewer.closed
