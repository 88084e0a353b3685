"""The sample upstream: it says what it received, and its page needs nothing from elsewhere."""

import io
import re
from pathlib import Path

import pytest

import gateway.ops.dev.sample
from gateway.ops.dev.sample import sample_app, user_seen

ISSUER = "http://127.0.0.1:8081"
STATIC = Path(gateway.ops.dev.sample.__file__).parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(sample_app(issuer=ISSUER, token_command="uv run gateway token"))


async def test_echo_tells_everything_in_order(client):
    headers = [("X-Twice", "1"), ("x-other", "é"), ("X-Twice", "2"), ("X-User-Id", "user_1")]
    response = await client.post("/a%2Fb/c?x=1&x=%20", data=b"hello", headers=headers)
    seen = await response.json()
    assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/a%2Fb/c", "x=1&x=%20")
    assert [pair for pair in seen["headers"] if pair[0].lower() in ("x-twice", "x-user-id")] == [
        ["X-Twice", "1"],
        ["X-Twice", "2"],
        ["X-User-Id", "user_1"],
    ]
    assert seen["user"] == {"id": "user_1"}
    assert seen["body"] == {"bytes": 5, "text": "hello"}


async def test_echo_is_laid_out_for_reading_without_changing_a_value(client):
    odd = 'a "b", [ "c",\t\\'
    response = await client.get("/x", headers={"X-Odd": odd})
    seen = await response.json()
    assert ["X-Odd", odd] in seen["headers"]
    assert len((await response.text()).splitlines()) == 12 + len(seen["headers"])


@pytest.mark.parametrize("path", ["/app", "/app/x?a=1"])
async def test_people_see_a_page_of_the_service_and_programs_what_was_received(client, path):
    told = {"X-User-Id": "user_bob", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "127.0.0.1:8080"}
    response = await client.get(path, headers=told | {"Accept": "text/html,*/*"})
    text = await response.text()
    assert "Signed in as user_bob" in text
    assert f'href="http://127.0.0.1:8080{path}"' in text
    assert f"{ISSUER}/sign-out?redirect_url=" in text
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"
    assert (await (await client.get(path, headers=told)).json())["user"] == {"id": "user_bob"}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
async def test_echo_takes_every_method(client, method):
    assert (await (await client.request(method, "/public/slow")).json())["method"] == method


async def test_head_has_no_body(client):
    response = await client.head("/public/bytes/10")
    assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"a" * 4096, "a" * 4096, id="short"),
        pytest.param(b"a" * 4097, None, id="long"),
        pytest.param(b"a" * 3_000_000, None, id="over-aiohttps-own-limit"),
        pytest.param(b"\xff\xfe", None, id="no-text"),
        pytest.param(b"", "", id="empty"),
    ],
)
async def test_body_is_counted_and_shown_if_short_text(client, body, text):
    seen = await (await client.post("/x", data=io.BytesIO(body))).json()
    assert seen["body"] == {"bytes": len(body), "text": text}


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        pytest.param([("Accept", "*/*"), ("X-Users", "1")], None, id="anonymous"),
        pytest.param([("X-User-Name", "Alice %C3%85berg, 100%25")], {"name": "Alice Åberg, 100%"}, id="decoded"),
        pytest.param(
            [("X-User-Org-Permissions", "org:a:b,org:c%2Cd:e")],
            {"org_permissions": ["org:a:b", "org:c,d:e"]},
            id="list-split-before-decoding",
        ),
        pytest.param([("x_user.id", "user_2")], {"id": "user_2"}, id="other-spellings-count"),
    ],
)
def test_user_is_read_as_an_upstream_would(headers, user):
    assert user_seen(headers) == user


async def test_stream_sends_its_events_and_ends(client):
    response = await client.get("/public/stream?events=3&every_s=0")
    text = await response.text()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert re.findall(r"^id: (\d)$", text, re.MULTILINE) == ["1", "2", "3"]
    assert text.endswith('data: {"number": 3, "of": 3}\n\n')


async def test_slow_answers_after_its_wait(client):
    assert await (await client.get("/public/slow?s=0")).json() == {"waited_s": 0}


async def test_bytes_sends_as_many(client):
    response = await client.get("/public/bytes/100001")
    assert len(await response.read()) == int(response.headers["Content-Length"]) == 100_001


@pytest.mark.parametrize("status", [200, 204, 304, 418, 503, 599])
async def test_status_is_the_one_asked_for(client, status):
    assert (await client.get(f"/public/status/{status}")).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/public/status/101",
        "/public/status/600",
        "/public/status/teapot",
        "/public/status/²00",
        "/public/slow?s=61",
        "/public/slow?s=-1",
        "/public/slow?s=nan",
        "/public/slow?s=x",
        "/public/bytes/1073741825",
        "/public/bytes/many",
        "/public/stream?events=1001",
        "/public/stream?every_s=inf",
    ],
)
async def test_what_is_out_of_bounds_is_said(client, path):
    response = await client.get(path)
    assert response.status == 400
    assert "from" in (await response.json())["error"]


async def test_page_and_its_files_are_served(client):
    page = await client.get("/")
    assert page.content_type == "text/html"
    for path in re.findall(r'(?:src|href)="([^"]+)"', await page.text()):
        assert path.startswith("/public/assets/") or path == "/app"
        assert (await client.get(path)).status == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fsample.py", "%2e%2e%2findex.html"])
async def test_only_the_pages_files_are_served(client, name):
    response = await client.get(f"/public/assets/{name}")
    assert response.status == 404
    assert "no such file" in (await response.json())["error"]


async def test_page_is_told_the_issuer_and_how_a_terminal_gets_a_token(client):
    told = await (await client.get("/public/config.json")).json()
    assert told == {"issuer": ISSUER, "token_command": "uv run gateway token"}


async def test_page_may_load_from_itself_and_call_the_issuer_only(client):
    policy = (await client.get("/")).headers["Content-Security-Policy"]
    assert "default-src 'self';" in policy
    assert f"connect-src 'self' {ISSUER};" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", FILES)
def test_page_needs_nothing_from_elsewhere(name):
    text = (STATIC / name).read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(https?:)?//[a-z0-9]", text.replace("${location.origin}", ""), re.IGNORECASE), name


def test_page_has_no_inline_script_or_style():
    text = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", text)
    assert "innerHTML" not in (STATIC / "page.js").read_text()
