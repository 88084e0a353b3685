import json
import time

import pytest

from gateway.ops.doctor.diagnosis import Diagnosis
from gateway.ops.doctor.evidence import Evidence
from gateway.ops.doctor.run import Progress, doctor, lines
from gateway.store.database import Database
from tests.fakes.certificates import authority
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.clerk_api import Canned, FakeBackendApi, World, errors
from tests.fakes.gateway import APP, gateway
from tests.fakes.upstream import read_request, response
from tests.ops.doctor.scene import SECRET_KEY, WEBHOOK_SECRET, of, scene
from tests.ops.doctor.world import OTHER, levels, said


def words(found, subject):
    return said(of(found, subject))


async def test_a_good_set_up_is_well(tmp_path):
    async with scene(tmp_path) as world:
        code, found = await world.doctor(token=world.token(), origin=APP, url="/orders")
    assert "error" not in levels(found), said(found)
    assert code == 0
    for subject in (
        "configuration",
        "keys",
        "Backend API",
        "instance",
        "clock",
        "upstream api",
        "store",
        "url",
        "origin",
        "token",
        "user",
    ):
        assert "ok" in levels(of(found, subject)), (subject, said(found))


async def test_nothing_is_changed_by_looking(tmp_path):
    async with scene(tmp_path) as world:
        await world.doctor(token=world.token())
        assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]
        assert {request.split()[0] for request in world.api.requests} == {"GET"}
        assert {request.method for request in world.echo.requests} == {"GET"}


async def test_a_broken_configuration_comes_first_and_alone(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["listn"] = {}
        world.sections["admin"] = {"host": "10.0.0.1", "port": 9901}
        world.clerk_section |= {"publishable_key": "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k"}
        code, found = await world.doctor()
        assert world.issuer.requests == 0
    assert (code, {each.subject for each in found}) == (1, {"configuration"})
    assert 'Did you mean "listen"?' in said(found)
    assert "admin.token: is required, because admin.host 10.0.0.1" in said(found)
    assert "is not the publishable key's issuer" in said(found)
    assert "is a key of a production instance, but tokens are taken of a development one" in said(found)


async def test_mixed_keys_are_found(tmp_path):
    async with scene(tmp_path) as world:
        world.api.clerk = OTHER
        code, found = await world.doctor(
            token=FakeClerk(world.issuer.url, kid="ins_other", key_name="second").session_token(time.time())
        )
    assert code == 1
    assert "mixed keys: the secret key is of ins_other" in words(found, "instance")
    assert "secret key's instance's: mixed keys" in words(found, "token")


async def test_a_jwt_key_of_another_instance_is_found(tmp_path):
    async with scene(tmp_path) as world:
        world.clerk_section["jwt_key"] = OTHER.pem()
        code, found = await world.doctor(token=world.token())
    assert code == 1
    assert "is not among the 1 keys" in words(found, "jwt_key")
    assert "is not signed with clerk.jwt_key" in words(found, "token")


async def test_a_secret_key_that_was_rolled_is_found(tmp_path):
    async with scene(tmp_path) as world:
        world.api.secret_key = "sk_live_another"
        code, found = await world.doctor()
    assert code == 1
    assert "status 401, clerk_key_invalid" in words(found, "Backend API")


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [(b"<!doctype html>", 200, "web page"), (b'{"keys": []}', 200, "the set is empty"), (None, 503, "answers 503")],
    ids=["html", "empty", "down"],
)
async def test_a_key_set_that_cannot_be_had_is_found(tmp_path, body, status, expected):
    async with scene(tmp_path) as world:
        world.issuer.body, world.issuer.status = body, status
        code, found = await world.doctor(token=world.token())
    assert code == 1
    assert expected in words(found, "keys")
    assert "without the issuer's keys" in words(found, "token")


async def test_a_clock_that_is_off_is_found_and_blamed(tmp_path):
    async with scene(tmp_path) as world:
        world.clock = lambda: time.time() + 300
        code, found = await world.doctor(token=world.token())
        assert code == 1
        assert "5 min ahead of Clerk's" in words(found, "clock")
        assert "has expired by this machine's clock" in words(found, "token")
        world.clock = lambda: time.time() - 45
        _, found = await world.doctor(token=world.token())
        assert "s behind Clerk's" in words(found, "clock")
        assert "is of the future: nbf is" in words(found, "token")


async def test_templates_are_looked_for_at_clerk(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["routes"] = [{"path": "/*", "upstream": "api", "token": "template", "audience": "legacy"}]
        world.sections["identity"] = {"enrich": False}
        assert "no JWT template of this instance has aud legacy" in words((await world.doctor())[1], "templates")
        world.api.templates = [{"name": "mine", "claims": {"aud": "legacy"}}]
        code, found = await world.doctor()
        assert (code, levels(of(found, "templates"))) == (0, ["warning"])


async def test_an_upstream_that_wants_https_is_found(tmp_path):
    async def script(reader, writer):
        while await read_request(reader) is not None:
            writer.write(response(301, fields=("Location: https://127.0.0.1/",)))

    async with scene(tmp_path, script=script) as world:
        code, found = await world.doctor()
    assert code == 1
    assert "wants to be asked over https" in words(found, "upstream api")


async def test_convex_behind_the_clients_host_is_found(tmp_path):
    async def script(reader, writer):
        while (request := await read_request(reader)) is not None:
            if request.value("host") == "api.example.com":
                writer.write(response(404))
            else:
                writer.write(response(body=b"1.2.3" if request.target == "/version" else b"a deployment"))

    async with scene(tmp_path, script=script) as world:
        world.sections["routes"] = [{"path": "/*", "upstream": "api", "host": "api.example.com"}]
        code, found = await world.doctor()
    assert code == 1
    assert "Write upstreams.api.kind: convex" in words(found, "upstream api")


async def test_an_upstream_that_is_not_there_and_one_that_is_sick(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["upstreams"] = {
            "api": {"targets": [{"url": "http://127.0.0.1:1"}, {"url": f"http://127.0.0.1:{world.upstream.port}"}]}
        }
        code, found = await world.doctor()
        assert (code, levels(of(found, "upstream api"))) == (1, ["error", "ok"])
        world.sections["upstreams"] = {
            "api": {"url": f"http://127.0.0.1:{world.api.url.rpartition(':')[2]}", "health": {"path": "/up"}}
        }
        assert "health check is answered 404" in words((await world.doctor())[1], "upstream api")


async def test_the_users_state_is_looked_for_here_and_at_clerk(tmp_path):
    async with scene(tmp_path) as world:
        Database(world.sections["store"]["url"]).close()
        code, found = await world.doctor(token=world.token(sub="user_gone"))
        assert code == 1
        assert "user_gone is not among the users" in words(found, "user")
        assert "user_gone is not in it yet" in words(found, "user directory")
        _, found = await world.doctor(cookie=f"__session={world.token()}; __client_uat=5")
        assert "Clerk knows user_1" in words(found, "user")


async def test_webhooks_signed_for_another_endpoint_are_found_in_the_log(tmp_path):
    log = tmp_path / "log"
    line = {"event": "request", "path": "/webhooks/clerk", "status": 400, "code": "bad_request", "reason": "signature"}
    log.write_text(json.dumps(line) + "\n")
    async with scene(tmp_path) as world:
        with log.open("rb") as lines_of_it:
            code, found = await world.doctor(log=lines_of_it)
    assert code == 1
    assert "Copy the signing secret of this very endpoint" in words(found, "log")


async def test_a_store_that_was_never_migrated_is_found(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["store"] = {"url": "postgresql://gw:hunter2@127.0.0.1:1/d"}
        code, found = await world.doctor()
    assert code == 1
    assert "postgresql://…@127.0.0.1:1/d" in words(found, "store")
    assert "hunter2" not in said(found)


async def test_a_running_gateway_is_asked_too(tmp_path):
    async with scene(tmp_path) as world:
        keys = {"issuer": world.clerk.issuer, "jwt_key": world.clerk.pem(), "webhook_signing_secrets": [WEBHOOK_SECRET]}
        store = {"url": f"sqlite:///{tmp_path / 'running.db'}"}
        admin = {"port": 0, "token": "correct-horse-battery"}
        async with gateway(world.upstream.port, clerk=keys, store=store, admin=admin) as running:
            world.sections["listen"] = {"host": "127.0.0.1", "port": running.port}
            world.sections["admin"] = {"port": running.app.admin_port, "token": "correct-horse-battery"}
            world.sections["public_url"] = f"http://127.0.0.1:{running.port}"
            world.sections["store"] = store
            code, found = await world.doctor()
            assert code == 0, said(found)
            assert levels(of(found, "gateway")) == ["ok"]
            assert levels(of(found, "admin")) == ["ok"]
            assert levels(of(found, "public_url")) == ["ok"]
            assert "takes what the configured secret has signed" in words(found, "webhooks")
            assert "none has come yet" in words(found, "webhooks")  # what was sent is no event and is nowhere kept
            world.clerk_section["webhook_signing_secrets"] = ["whsec_YW5vdGhlcmFub3RoZXJhbm90aGVy"]
            world.sections["admin"]["token"] = "another-token-altogether"
            code, found = await world.doctor()
            assert code == 1
            assert "another one (400 signature)" in words(found, "webhooks")
            assert "another admin.token" in words(found, "admin")


async def test_a_proxy_of_the_frontend_api_is_asked_for_the_keys(tmp_path):
    async with scene(tmp_path) as world:
        world.clerk_section["proxy_url"] = world.issuer.url
        code, found = await world.doctor()
        assert (code, levels(of(found, "proxy"))) == (0, ["ok"])
        world.clerk_section["proxy_url"] = f"http://127.0.0.1:{world.upstream.port}/__clerk"
        code, found = await world.doctor()
        assert (code, levels(of(found, "proxy"))) == (1, ["error"])


async def test_what_is_not_the_gateway_at_its_port_is_found(tmp_path):
    async with scene(tmp_path) as world:
        world.sections["listen"] = {"host": "127.0.0.1", "port": world.upstream.port}
        world.sections["public_url"] = world.issuer.url
        world.issuer.body = b"<html>hello</html>"
        code, found = await world.doctor()
        assert code == 1
        assert "is something else" in words(found, "gateway")
        assert "a web page" in words(found, "public_url")
        posts = [request for request in world.echo.requests if request.method == "POST"]
        assert posts == []  # nothing is sent to what is no gateway


async def test_several_issuers_are_looked_at_each(tmp_path):
    second = FakeClerk(kid="ins_other", key_name="second")
    async with (
        scene(tmp_path) as world,
        FakeIssuer(second) as issuer,
        FakeBackendApi(World(), secret_key=SECRET_KEY) as api,
    ):
        second.issuer = issuer.url
        shop, world.clerk_section = world.clerk_section | {"name": "shop"}, {}
        team = {"name": "team", "issuer": issuer.url, "secret_key": SECRET_KEY, "api_url": api.url}
        world.sections["issuers"] = [shop, team]
        code, found = await world.doctor(token=second.session_token(time.time()))
    assert levels(of(found, "keys of shop")) == levels(of(found, "instance of shop")) == ["ok"]
    assert "mixed keys" in words(found, "instance of team")
    assert levels(of(found, "token")) == ["ok"]
    assert code == 1


async def test_no_secret_and_no_token_is_ever_shown(tmp_path):
    async with scene(tmp_path) as world:
        world.api.canned.extend([Canned(401, errors("clerk_key_invalid") + SECRET_KEY.encode())] * 4)
        world.issuer.body = f'{{"leak": "{SECRET_KEY}"}}'.encode()
        token = world.token(azp=SECRET_KEY, iss=f"https://user:pass@{WEBHOOK_SECRET}")
        shown = ""
        for as_json in (False, True):
            code, written = await world.output(
                as_json=as_json,
                terminal=True,
                token=token,
                cookie=f"__session={token}",
                url=f"/x?token={token}",
                origin=f"https://{SECRET_KEY}",
            )
            assert code == 1
            shown += "".join(written)
    for secret in (SECRET_KEY, WEBHOOK_SECRET, "user:pass", *token.split(".")):
        assert secret not in shown


async def test_on_a_terminal_it_says_what_it_waits_for_and_takes_that_away(tmp_path):
    async with scene(tmp_path) as world:
        _, written = await world.output(terminal=True)
        assert any(line.startswith("\r") and "waiting for" in line for line in written)
        last = max(index for index, line in enumerate(written) if line.startswith("\r"))
        assert not written[last].strip()
        _, quiet = await world.output(terminal=False)
        assert not any(line.startswith("\r") for line in quiet)


def test_each_diagnosis_is_a_line_with_its_remedy_beneath():
    found = [
        Diagnosis("ok", "keys", "1 key"),
        Diagnosis("error", "clock", "off", "Set it"),
        Diagnosis("skipped", "x", "y"),
    ]
    assert lines(found) == [
        "ok     keys   1 key",
        "ERROR  clock  off",
        "              -> Set it",
        "-      x      y",
        "1 error",
    ]
    assert lines(found[:1])[-1] == "nothing is wrong"
    assert lines([Diagnosis("warning", "a", "b", "c")] * 2)[-1] == "2 warnings"


def test_on_a_terminal_lines_are_broken_in_their_column():
    found = [Diagnosis("error", "keys", "a word " * 8 + "end", "and what to do " * 5)]
    broken = lines(found, 60)
    assert max(map(len, broken)) <= 60
    assert broken[0].startswith("ERROR  keys  a word")
    assert all(line.startswith(" " * 13) for line in broken[1:-1])
    assert " ".join(" ".join(broken[:-1]).split()) == " ".join(" ".join(lines(found)[:-1]).split())
    assert lines(found, 20) == lines(found)  # too narrow to help


def test_progress_without_a_terminal_writes_nothing():
    progress = Progress(None)
    progress.told("keys", False)
    progress.told("keys", True)
    progress.end()


def test_a_file_that_is_not_there_is_an_error():
    written = []
    code = doctor("/no/such.yaml", {}, Evidence(), as_json=False, terminal=False, write=written.append)
    assert code == 1
    assert "cannot be read" in written[0]


async def test_a_running_gateway_that_does_not_sign_is_found(tmp_path):
    signing = {"assertion": {"enabled": True, "issuer": "https://gw.example.com", "keys_dir": str(tmp_path / "keys")}}
    async with scene(tmp_path) as world:
        world.sections["identity"] = signing
        for identity, level in (({}, "error"), (signing, "ok")):
            async with gateway(world.upstream.port, identity=identity) as running:
                world.sections["listen"] = {"host": "127.0.0.1", "port": running.port}
                _, found = await world.doctor()
                assert levels(of(found, "assertion")) == [level], said(found)


async def test_a_gateway_with_tls_is_found_by_its_address(tmp_path):
    pair = authority().issue("gw.example.com").write(tmp_path, "server")
    tls = {"cert": pair.cert, "key": pair.key}
    async with scene(tmp_path) as world:
        listen = {"host": "127.0.0.1", "port": 0, "tls": tls}
        async with gateway(world.upstream.port, listen=listen) as running:
            world.sections["listen"] = listen | {"port": running.port}
            code, found = await world.doctor()
            assert levels(of(found, "gateway")) == ["ok"]
            assert "has no signing secret" in words(found, "webhooks")
            assert code == 1
