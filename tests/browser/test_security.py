"""The real app's live routes: no page of another site may watch or steer."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from effcore.bench.app_server import AppServer

pytestmark = pytest.mark.browser


def live(server: AppServer, **headers: str) -> str:
    """Ask for a run that does not exist, and return what is answered."""
    address = f"ws://{server.address}/api/live?run=none"
    with connect(address, additional_headers=headers) as socket:
        return str(socket.recv(timeout=30))


def test_an_own_page_and_a_plain_client_are_answered(server: AppServer) -> None:
    assert "there is no run" in live(server)
    assert "there is no run" in live(server, Origin=server.url)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"],
)
def test_a_foreign_origin_is_refused(server: AppServer, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        live(server, Origin=origin)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_a_foreign_host_is_refused(server: AppServer, host: str) -> None:
    port = server.address.partition(":")[2]
    with pytest.raises((InvalidStatus, ConnectionClosed)) as refused:
        live(server, Host=f"{host}:{port}", Origin=f"http://{host}:{port}")
    assert "there is no run" not in str(refused.value)


@pytest.mark.parametrize("path", ["api/health", "api/plotly.min.js"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_the_other_routes_refuse_too(server: AppServer, path: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{server.url}/{path}", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert answer.code == 403
        assert b"evil.example" in answer.read()


def test_a_message_that_makes_no_sense_is_answered_and_harms_nothing(server: AppServer) -> None:
    with connect(f"ws://{server.address}/api/live?run=../../etc/passwd") as socket:
        assert "there is no run" in str(socket.recv(timeout=30))
    assert server.health()["status"] == "ok"
