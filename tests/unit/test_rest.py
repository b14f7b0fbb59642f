"""The REST interface, asked over HTTP: answers, refusals, and what keeps strangers out."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.unit.conftest import CONFIG, Served

BUG = "# a bug"
"""What ``rest_server`` stumbles over in its file."""


def ask(
    served: Served, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Status code and JSON of an answer; a body that is no text is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
    try:
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert text.endswith("\n")
        return answer.status, json.loads(text)
    finally:
        connection.close()


def states(group: dict[str, Any]) -> dict[str, str]:
    """State of each node by name."""
    return {node["name"]: node["state"] for node in group["nodes"]}


def test_status(served: Served) -> None:
    """All groups with their nodes, and one of them alone."""
    code, status = ask(served, "GET", "/v1/status")

    assert code == 200
    assert (status["controller"], status["version"]) == ("lab", "1.2.3")
    assert [group["name"] for group in status["groups"]] == ["dns", "web"]
    web = status["groups"][1]
    assert web["addresses"] == ["10.0.0.10"]
    assert web["nodes"][0]["slots"] == 256
    code, alone = ask(served, "GET", "/v1/groups/web")
    assert (code, alone["name"], states(alone)) == (200, "web", {"web-1": "active"})


def test_scale_and_back(served: Served) -> None:
    """A number holds until null gives the group back to its policy."""
    code, group = ask(served, "POST", "/v1/groups/web/scale", {"nodes": 3})
    assert (code, group["wanted"], group["override"]) == (200, 3, 3)
    assert states(group) == {"web-1": "active", "web-2": "active", "web-3": "active"}

    code, group = ask(served, "POST", "/v1/groups/web/scale", {"nodes": None})
    assert (code, group["wanted"], group["override"]) == (200, 1, None)


def test_verbs(served: Served) -> None:
    """A node is named by its name or by its number."""
    ask(served, "POST", "/v1/groups/web/scale", {"nodes": 3})

    code, group = ask(served, "POST", "/v1/groups/web/nodes/web-2/drain")
    assert (code, states(group)["web-2"]) == (200, "draining")
    code, group = ask(served, "POST", "/v1/groups/web/nodes/2/undrain")
    assert (code, states(group)["web-2"]) == (200, "active")
    code, group = ask(served, "POST", "/v1/groups/web/nodes/3/fail")
    assert code == 200
    assert states(group).get("web-3") != "active"


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        ("GET", "/v1/groups/wbe", None, 404, "no group 'wbe'; there are: dns, web"),
        ("GET", "/v1/events?group=wbe", None, 404, "no group 'wbe'; there are: dns, web"),
        ("POST", "/v1/groups/wbe/scale", {"nodes": 1}, 404, "no group 'wbe'; there are: dns, web"),
        ("POST", "/v1/groups/web/nodes/9/drain", None, 404, "no node '9' in web; there are: web-1"),
        (
            "POST",
            "/v1/groups/web/nodes/1/kill",
            None,
            404,
            "no verb 'kill'; there are: drain, undrain, fail",
        ),
        (
            "GET",
            "/v1/groups",
            None,
            404,
            "nothing answers GET /v1/groups; start with GET /v1/status",
        ),
        (
            "POST",
            "/v1/status",
            None,
            404,
            "nothing answers POST /v1/status; start with GET /v1/status",
        ),
        (
            "POST",
            "/v1/groups/web/nodes/1/undrain",
            None,
            409,
            "web-1 is active: cannot undrain it",
        ),
        (
            "POST",
            "/v1/groups/web/scale",
            {"nodes": 9},
            409,
            "web has between 1 and 4 nodes (scaling.min, .max)",
        ),
        ("POST", "/v1/groups/web/scale", "{nodes: 2}", 400, "the body is not JSON"),
        (
            "DELETE",
            "/v1/groups/web",
            None,
            404,
            "nothing answers DELETE /v1/groups/web; start with GET /v1/status",
        ),
        ("POST", "/v1/groups/web/scale", b"\xff", 400, "the body is not JSON"),
        ("POST", "/v1/groups/web/scale", "[" * 4000, 400, "the body is not JSON"),
        ("GET", "/v1/events?group=%ff", None, 400, "the query is not UTF-8"),
        ("GET", "/v1/events?since=%ff", None, 400, "the query is not UTF-8"),
        (
            "GET",
            "/v1/events?since=yesterday",
            None,
            400,
            "since must be seconds since the epoch, not 'yesterday'",
        ),
        (
            "GET",
            "/v1/events?since=nan",
            None,
            400,
            "since must be seconds since the epoch, not 'nan'",
        ),
        (
            "POST",
            "/v1/groups/web/scale",
            " " * 5000,
            413,
            "the body is longer than 4096 bytes",
        ),
    ],
)
def test_refusals(
    untouched: Served, method: str, path: str, body: Any, code: int, message: str
) -> None:
    """One line of JSON that says what is wrong, and nothing is changed."""
    assert ask(untouched, method, path, body) == (code, {"error": message})
    _, group = ask(untouched, "GET", "/v1/groups/web")
    assert (group["wanted"], states(group)) == (1, {"web-1": "active"})


@pytest.mark.parametrize(
    "body", [{}, [], 3, {"nodes": 0}, {"nodes": -1}, {"nodes": "2"}, {"nodes": True}, {"n": 1}]
)
def test_scale_wants_a_number(untouched: Served, body: Any) -> None:
    """Whatever else is in the body changes nothing."""
    assert ask(untouched, "POST", "/v1/groups/web/scale", body) == (
        400,
        {
            "error": 'the body must be {"nodes": N} with a whole number of at least 1, '
            'or {"nodes": null}'
        },
    )
    assert ask(untouched, "GET", "/v1/groups/web")[1]["wanted"] == 1


def test_pages_of_other_sites_are_refused(untouched: Served) -> None:
    """A browser names the page's origin; what has another one cannot drain a node."""
    path = "/v1/groups/web/nodes/1/drain"
    assert ask(untouched, "POST", path, Origin="http://evil.example") == (
        403,
        {"error": "requests from pages of http://evil.example are refused"},
    )
    assert ask(untouched, "GET", "/v1/status", Origin=untouched.url)[0] == 200


def test_a_bug_of_ours_is_one_line_too(served: Served) -> None:
    """What nobody thought of is in the log; who asked gets JSON, and the server goes on."""
    served.file.write_text(f"{CONFIG}{BUG}\n")

    assert ask(served, "POST", "/v1/reload") == (
        500,
        {"error": "the controller failed at this request; its log says why"},
    )
    assert ask(served, "GET", "/v1/status")[0] == 200


def test_events(served: Served) -> None:
    """Of all groups or of one, oldest first, and only those after a time."""
    ask(served, "POST", "/v1/groups/web/scale", {"nodes": 2})

    _, everything = ask(served, "GET", "/v1/events")
    events = everything["events"]
    times = [event["time_s"] for event in events]
    assert times == sorted(times)
    assert {event["group"] for event in events} == {"web", "dns"}
    _, of_web = ask(served, "GET", "/v1/events?group=web")
    assert of_web["events"] == [event for event in events if event["group"] == "web"]
    assert "started" in {event["kind"] for event in of_web["events"]}
    _, later = ask(served, "GET", f"/v1/events?since={times[-1]!r}")
    assert later == {"events": []}


def test_reload(served: Served) -> None:
    """What changed is named; a bad file changes nothing and says why."""
    served.file.write_text(CONFIG.replace("idle_s: 600", "idle_s: 60"))
    assert ask(served, "POST", "/v1/reload") == (200, {"changed": ["web"]})

    served.file.write_text(CONFIG.replace("kind: none", "kind: nun"))
    code, answer = ask(served, "POST", "/v1/reload")
    assert code == 409
    assert answer["error"] == "the configuration was refused, the running one stays"
    lines = [(problem["path"], problem["line"]) for problem in answer["problems"]]
    written = [number for number, line in enumerate(CONFIG.splitlines(), 1) if "kind: none" in line]
    assert lines == [
        ("groups.web.health.kind", written[0]),
        ("groups.dns.health.kind", written[1]),
    ]
    assert ask(served, "GET", "/v1/groups/web")[1]["active"] == 1


def test_metrics(served: Served) -> None:
    """Prometheus gets text in its own format."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert 'sncontroller_node_slots{group="web",node="web-1",role="primary"} 256\n' in text
