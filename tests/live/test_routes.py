from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from effcore.live.protocol import decode_frame
from effcore.live.routes import (
    CLOSE_NO_RUN,
    CLOSE_STREAM_BROKEN,
    PLOTLY_PATH,
    PLOTLY_SCRIPT,
    live_routes,
    refusal_reason,
)
from effcore.records import RunStatus
from effcore.registry import UnknownNameError
from tests.fakes import FakeRun, FakeSource, snapshot

BASE = "http://127.0.0.1:8501"
LIVE = "ws://127.0.0.1:8501/api/live?run="


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def client(run: FakeRun) -> Iterator[TestClient]:
    app = Starlette(routes=live_routes(FakeSource(run), allowed_hosts=["lab.example"]))
    with TestClient(app, base_url=BASE) as client:
        yield client


def heard(socket: WebSocketTestSession, *wanted: str) -> dict[str, Any]:
    """The next message of one of these kinds; frames are reduced to their headers."""
    while True:
        message = socket.receive()
        if message["type"] == "websocket.close":
            raise WebSocketDisconnect(message["code"])
        text = message.get("text")
        content: dict[str, Any] = json.loads(text) if text else decode_frame(message["bytes"])[0]
        if content.get("kind", next(iter(content))) in wanted:
            return content


def said(client: TestClient, message: object) -> dict[str, Any]:
    """What comes back for a message: an acknowledgement, an error or a window."""
    with client.websocket_connect(LIVE + "one") as socket:
        socket.send_text(message if isinstance(message, str) else json.dumps(message))
        return heard(socket, "ack", "error", "window")


def test_a_viewer_gets_hello_then_a_snapshot_then_what_is_new(
    client: TestClient, run: FakeRun
) -> None:
    with client.websocket_connect(LIVE + "one") as socket:
        assert json.loads(socket.receive_text())["hello"]["run"] == "one"
        first = decode_frame(socket.receive_bytes())[0]
        assert (first["kind"], first["to"]) == ("snapshot", [20, 2, 21])
        more = snapshot(27)
        run.look = replace(run.look, steps=more.steps, power=more.power)
        fresh = heard(socket, "delta")
        while fresh["to"] == first["to"]:
            fresh = heard(socket, "delta")
        assert (fresh["from"], fresh["to"][0]) == ([20, 2, 21], 27)


def test_two_viewers_share_a_run_and_each_hears_of_its_own_requests(
    client: TestClient, run: FakeRun
) -> None:
    with (
        client.websocket_connect(LIVE + "one") as left,
        client.websocket_connect(LIVE + "one") as right,
    ):
        left.send_json({"set": {"name": "mass", "value": 0.25, "seq": 9}})
        assert heard(left, "ack")["ack"] == {"name": "mass", "value": 0.25, "seq": 9, "version": 1}
        run.apply(21, "mass", 0.25)
        applied = {"name": "mass", "value": 0.25, "step": 21, "seq": 9}
        assert heard(left, "applied")["applied"] == applied
        while (state := heard(right, "delta", "applied")["status"])["knobs"]["mass"] != 0.25:
            pass
        assert state["version"] == 1


@pytest.mark.parametrize("what", ["pause", "resume", "step", "stop"])
def test_controls_reach_the_run_and_are_acknowledged(
    client: TestClient, run: FakeRun, what: str
) -> None:
    assert said(client, {"do": what}) == {"ack": {"do": what}}
    assert run.asked == [what]


def test_pace_reaches_the_run(client: TestClient, run: FakeRun) -> None:
    assert said(client, {"pace": "slow"}) == {"ack": {"pace": "slow"}}
    assert run.pace == "slow"


def test_a_zoomed_range_comes_back_finely(client: TestClient) -> None:
    found = said(client, {"view": {"axis": "step", "x0": 3, "x1": 8}})
    assert (found["kind"], found["x0"], found["x1"]) == ("window", 3.0, 8.0)


def test_a_snapshot_is_sent_on_request(client: TestClient) -> None:
    with client.websocket_connect(LIVE + "one") as socket:
        heard(socket, "snapshot")
        socket.send_json({"snapshot": True})
        heard(socket, "snapshot")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("[1]", "send an object with one of set, do"),
        ({"fly": 1}, "send an object with one of set, do"),
        ({"do": "pause", "pace": "full"}, "send an object"),
        ({"do": "explode"}, "choose one of pause"),
        ({"do": ["pause"]}, "choose one of pause"),
        ({"pace": "warp"}, "'warp' is not allowed"),
        ({"pace": 3}, "choose full, slow or step"),
        ({"set": 3}, "expected name, value and seq"),
        ({"set": {"name": "mass", "value": "0.2"}}, "expected a number"),
        ({"set": {"name": "mass", "value": True}}, "expected a number"),
        ({"set": {"name": "mass", "value": 7, "seq": 1}}, "from 0 to 0.95"),
        ({"set": {"name": "mass", "value": 0.2, "seq": "x"}}, "expected a whole number"),
        ({"set": {"name": "speed", "value": 1}}, "unknown knob"),
        ('{"set": {"name": "mass", "value": NaN}}', "mass=nan is not allowed"),
        ('{"set": {"name": "mass", "value": %s}}' % ("9" * 3000), "mass=inf is not allowed"),
        ({"view": {"axis": "miles", "x0": 0, "x1": 1}}, "not one of step, epochs"),
        ({"view": {"axis": "step", "x0": 1, "x1": 1}}, "x0 < x1"),
        ({"view": {"axis": "step", "x0": None, "x1": 1}}, "x0 < x1"),
        ({"view": None}, "x0 < x1"),
        ('{"view": {"axis": "step", "x0": 0, "x1": Infinity}}', "x0 < x1"),
        (" " * 5000, "at most 4096 characters"),
    ],
)
def test_a_bad_message_is_answered_and_changes_nothing(
    client: TestClient, run: FakeRun, message: object, words: str
) -> None:
    with client.websocket_connect(LIVE + "one") as socket:
        socket.send_text(message if isinstance(message, str) else json.dumps(message))
        assert words in heard(socket, "error")["error"]
        socket.send_json({"do": "pause"})  # the connection lives on
        heard(socket, "ack")
    assert run.asked == ["pause"]


def test_binary_messages_are_refused(client: TestClient) -> None:
    with client.websocket_connect(LIVE + "one") as socket:
        socket.send_bytes(b"\x00")
        assert "expected JSON text" in heard(socket, "error")["error"]


def test_a_run_that_is_over_can_be_watched_but_not_steered(
    client: TestClient, run: FakeRun
) -> None:
    run.look = replace(run.look, status=RunStatus.FINISHED)
    refused = said(client, {"do": "stop"})
    assert refused == {"error": "the run is over", "of": "do", "seq": None}


@pytest.mark.parametrize("run_id", ["", "two", "broken"])  # the last may work again
def test_a_run_that_is_not_there_is_named(
    client: TestClient, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.CRITICAL),
        client.websocket_connect(LIVE + run_id) as socket,
    ):
        assert repr(run_id) in heard(socket, "error")["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == (CLOSE_STREAM_BROKEN if run_id == "broken" else CLOSE_NO_RUN)


def test_a_run_whose_policy_is_gone_is_named_and_not_tried_again(
    client: TestClient,
    run: FakeRun,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def knob_specs() -> None:
        raise UnknownNameError("unknown selection 'gone': Allowed: dense.")

    monkeypatch.setattr(run, "knob_specs", knob_specs)
    with (
        caplog.at_level(logging.CRITICAL),
        client.websocket_connect(LIVE + "one") as socket,
    ):
        assert "unknown selection 'gone'" in heard(socket, "error")["error"]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == CLOSE_NO_RUN


def test_a_control_that_waits_for_the_run_holds_up_nobody_else(
    client: TestClient, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Event()

    def pause() -> None:
        assert lock.wait(10)
        run.asked.append("pause")

    monkeypatch.setattr(run, "pause", pause)
    with (
        client.websocket_connect(LIVE + "one") as left,
        client.websocket_connect(LIVE + "one") as right,
    ):
        left.send_json({"do": "pause"})
        left.send_json({"do": "resume"})
        right.send_json({"pace": "slow"})
        assert heard(right, "ack") == {"ack": {"pace": "slow"}}
        assert run.asked == []
        lock.set()
        assert [heard(left, "ack")["ack"]["do"] for _ in range(2)] == ["pause", "resume"]
    assert run.asked == ["pause", "resume"]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": "127.0.0.1:8501"}, True),
        ({"host": "localhost:8501", "origin": "http://localhost:8501"}, True),
        ({"host": "[::1]:8501", "origin": "http://[::1]:8501"}, True),
        ({"host": "lab.example", "origin": "https://lab.example"}, True),
        ({"host": "LAB.example", "origin": "https://lab.example"}, True),
        ({"host": "evil.example"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": ""}, False),
        ({"host": "[bad"}, False),
        ({}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:9999"}, False),
        ({"host": "127.0.0.1:8501", "origin": "null"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://["}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:8501@evil.example"}, False),
    ],
)
def test_only_this_machine_and_its_own_pages_may_connect(
    client: TestClient, headers: dict[str, str], allowed: bool
) -> None:
    hosts = {"localhost", "127.0.0.1", "::1", "lab.example"}
    assert (refusal_reason(headers, hosts) is None) is allowed
    if "host" not in headers:
        return
    assert client.get("/api/health", headers=headers).status_code == (200 if allowed else 403)
    if allowed:
        with client.websocket_connect(LIVE + "one", headers=headers) as socket:
            heard(socket, "hello")
    else:
        with (
            pytest.raises(WebSocketDisconnect) as closed,
            client.websocket_connect(LIVE + "one", headers=headers),
        ):
            pass
        assert closed.value.code == 1008


def test_health_tells_what_the_trainer_does(client: TestClient, run: FakeRun) -> None:
    answer = client.get("/api/health")
    assert answer.headers["cache-control"] == "no-store"
    trainer = {"run_id": "one", "status": "running", "step": 20}
    assert answer.json() == {"status": "ok", "trainer": trainer}
    run.look = replace(run.look, status=RunStatus.FINISHED)
    assert client.get("/api/health").json() == {"status": "ok", "trainer": None}


def test_plotly_s_small_bundle_is_served_and_kept_by_browsers(client: TestClient) -> None:
    assert PLOTLY_SCRIPT.name == "plotly-basic.min.js"
    answer = client.get(f"/{PLOTLY_PATH}")
    assert answer.headers["content-encoding"] == "gzip"
    plain = client.get(f"/{PLOTLY_PATH}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content == PLOTLY_SCRIPT.read_bytes()
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "max-age=31536000" in answer.headers["cache-control"]
    assert b"plotly.js (basic" in answer.content[:200]
    assert client.get("/api/widgetbundle.js").status_code == 404
