"""How Clerk's APIs answer, and whom."""

import pytest
from aiohttp import web

from gateway.ops.dev.answers import NotAuthentic, behind, body_of, text_of

KEY = "sk_test_1"


@pytest.fixture
async def client(aiohttp_client):
    async def later(request):
        return {"told": text_of(await body_of(request), "x")}

    def raising(error):
        def answer(_):
            raise error

        return answer

    app = web.Application()
    app.router.add_get("/now", behind(KEY, lambda _: {"a": 1}))
    app.router.add_post("/later", behind(KEY, later))
    app.router.add_get("/404", behind(KEY, raising(LookupError("x"))))
    app.router.add_get("/422", behind(KEY, raising(ValueError("wrong"))))
    app.router.add_get("/400", behind(KEY, raising(NotAuthentic("its_code", "why"))))
    return await aiohttp_client(app, headers={"Authorization": f"Bearer {KEY}"})


async def test_content_type_is_bare_json(client):
    response = await client.get("/now")
    assert (response.headers["Content-Type"], await response.json()) == ("application/json", {"a": 1})
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer sk_test_2", "bearer sk_test_1", "Bearer sk_test_1x", "é"])
async def test_another_key_opens_nothing(client, sent):
    response = await client.get("/now", headers={"Authorization": sent})
    assert response.status == 401
    assert (await response.json())["errors"][0]["code"] == "clerk_key_invalid"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/404", "resource_not_found"), ("/422", "form_param_value_invalid"), ("/400", "its_code")],
)
async def test_errors_are_clerks(client, path, code):
    response = await client.get(path)
    assert response.status == int(path[1:])
    assert (await response.json())["errors"][0]["code"] == code


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"x": "y"}', 200, id="good"),
        pytest.param(b"", 422, id="none"),
        pytest.param(b"[]", 422, id="list"),
        pytest.param(b"{", 422, id="broken"),
        pytest.param(b"\xff", 422, id="not-utf-8"),
        pytest.param(b"[" * 100_000, 422, id="deep"),
        pytest.param(b"{}", 422, id="missing"),
        pytest.param(b'{"x": ""}', 422, id="empty"),
        pytest.param(b'{"x": 1}', 422, id="number"),
    ],
)
async def test_bodies_are_read_or_refused(client, body, status):
    assert (await client.post("/later", data=body)).status == status
