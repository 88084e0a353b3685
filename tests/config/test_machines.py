import pytest

from gateway.core.machine import MachinePolicy
from gateway.core.model import BackendAddress
from tests.config.files import APP, KEY, Finding, findings, loaded, only, publishable_key, written

SECRET, OWN = "sk_live_abcdefgh", "ak_abcdefgh"
KEYED, MACHINE = (BackendAddress("https://api.clerk.com", key) for key in (SECRET, OWN))


def clerk(more: str = f", secret_key: {SECRET}") -> str:
    return f"{{publishable_key: {KEY}, authorized_parties: [{APP}]{more}}}"


def routes(*routes: str) -> str:
    return "[" + ", ".join(f"{{path: /{at}/*, upstream: api, {route}}}" for at, route in enumerate(routes)) + "]"


def told(text: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.key) for finding in findings(text)]


def remedy(finding: Finding) -> str:
    assert finding.remedy is not None
    return finding.remedy


@pytest.mark.parametrize(("token", "types"), [
    ("session", {"session"}), ("api_key", {"api_key"}), ("[session, m2m]", {"session", "m2m"}),
    ("session,oauth", {"session", "oauth"}), ("any", {"session", "api_key", "m2m", "oauth"}),
    ("[any, template]", {"session", "template", "api_key", "m2m", "oauth"}),
])  # fmt: skip
def test_which_types_a_route_takes(token, types):
    audience = ", audience: [x]" if "template" in token else ""
    written_token = token if token.startswith("[") else f'"{token}"'
    config = loaded(written(clerk=clerk(), routes=routes(f"token: {written_token}{audience}")))
    assert config.routes[0].admission.token_types == types


@pytest.mark.parametrize(("keys", "taken", "policy"), [
    pytest.param(f", secret_key: {SECRET}", ["session"], None, id="none-taken"),
    pytest.param(f", secret_key: {SECRET}", ["any, auth: public"], None, id="on-a-public-route"),
    pytest.param(f", secret_key: {SECRET}", ["any"], MachinePolicy(KEYED, KEYED), id="secret-key-for-all"),
    pytest.param(f", secret_key: {SECRET}, machine_secret_key: {OWN}", ["oauth", "m2m"], MachinePolicy(KEYED, MACHINE),
                 id="machines-own-key"),
    pytest.param(f", machine_secret_key: {OWN}, machine_verify_per_s: 0.5", ["m2m"], MachinePolicy(None, MACHINE, 0.5),
                 id="machines-own-key-alone"),
])  # fmt: skip
def test_what_clerk_is_asked_with(keys, taken, policy):
    shown = [finding for finding in findings(written(clerk=clerk(keys), routes=routes(*(f"token: {each}" for each in taken))))
             if "public route" not in finding.message]  # fmt: skip
    assert shown == []
    config = loaded(written(clerk=clerk(keys), routes=routes(*(f"token: {each}" for each in taken))))
    assert config.issuers[0].machines == policy
    assert SECRET not in repr(config)
    assert OWN not in repr(config)


def test_scopes_are_required():
    require = (
        loaded(written(clerk=clerk(), routes=routes("token: api_key, require: {scope: 'read, write'}")))
        .routes[0]
        .require
    )
    assert require.scopes == {"read", "write"}
    assert require.needs_principal


@pytest.mark.parametrize(("token", "more", "missing"), [
    ("api_key", "", "api_key"), ("oauth", "", "oauth"), ("m2m", "", "m2m"), ("any", "", "api_key, m2m, oauth"),
    ("any", f", machine_secret_key: {OWN}", "api_key, oauth"),
], ids=str)  # fmt: skip
def test_whoever_takes_them_needs_a_key(token, more, missing):
    finding = only(written(clerk=clerk(more), routes=routes(f"token: {token}")))
    assert (finding.level, finding.key) == ("error", "clerk.secret_key")
    assert f"routes take {missing} tokens" in finding.message
    assert ("or machine_secret_key" in remedy(finding)) == (missing == "m2m")


def test_a_broken_key_is_one_error():
    for more in (", secret_key: nonsense", ", machine_secret_key: nonsense"):
        assert [level for level, _ in told(written(clerk=clerk(more), routes=routes("token: m2m")))] == ["error"]


@pytest.mark.parametrize("own", ["sk_live_abcdefgh", "ak_", '"ak_a b"', "ak_ü", "whatever"])
def test_what_is_no_machines_key_is_refused_without_showing_it(own):
    finding = only(
        written(clerk=clerk(f", secret_key: {SECRET}, machine_secret_key: {own}"), routes=routes("token: m2m"))
    )
    assert (finding.level, finding.key) == ("error", "clerk.machine_secret_key")
    assert "Machines" in finding.message
    assert own.strip('"') not in str(finding).replace("from ak_ on", "")


def test_a_machines_key_that_nothing_is_asked_with():
    finding = only(written(clerk=clerk(f", secret_key: {SECRET}, machine_secret_key: {OWN}")))
    assert (finding.level, finding.key) == ("warning", "clerk.machine_secret_key")


@pytest.mark.parametrize(
    ("per_s", "level"), [("0", "error"), ("0.05", "error"), ("101", "warning"), ("1000000", "warning")]
)
def test_how_often_clerk_may_be_asked(per_s, level):
    text = written(clerk=clerk(f", secret_key: {SECRET}, machine_verify_per_s: {per_s}"), routes=routes("token: m2m"))
    finding = only(text)
    assert (finding.level, finding.key) == (level, "clerk.machine_verify_per_s")
    assert remedy(finding)


def test_an_address_that_cannot_be_asked_is_one_error():
    text = written(clerk=clerk(f", secret_key: {SECRET}, api_url: 'ftp://x'"), routes=routes("token: m2m"))
    assert told(text) == [("error", "clerk.api_url")]


ISSUERS = (
    f"[{{name: a, publishable_key: {KEY}, authorized_parties: [{APP}], secret_key: {SECRET}}}, "
    f"{{name: b, publishable_key: {publishable_key('clerk.example.org')}, authorized_parties: [{APP}]}}]"
)


def test_of_several_issuers_a_route_names_the_one_to_ask():
    config = loaded(written(clerk="{}", issuers=ISSUERS, routes=routes("token: any, issuer: a", "token: session")))
    assert [issuer.machines for issuer in config.issuers] == [MachinePolicy(KEYED, KEYED), None]
    finding = only(written(clerk="{}", issuers=ISSUERS, routes=routes("token: session", "token: [m2m]")))
    assert (finding.level, finding.key) == ("error", "routes[1].token")
    assert "issuer:" in remedy(finding)
    finding = only(written(clerk="{}", issuers=ISSUERS, routes=routes("token: api_key, issuer: b")))
    assert (finding.level, finding.key) == ("error", "issuers[1].secret_key")
    finding = only(written(clerk="{}", issuers=ISSUERS, routes=routes("token: api_key, issuer: c")))
    assert finding.key == "routes[0].issuer"


@pytest.mark.parametrize(("route", "key"), [
    ("require: {scope: read}", "scope"), ("token: [session], require: {scope: read}", "scope"),
    ("token: api_key, require: {role: admin}", "role"), ("token: [m2m, oauth], require: {permission: a:b}", "permission"),
    ("token: oauth, require: {plan: pro}", "plan"), ("token: oauth, require: {feature: x}", "feature"),
    ("token: oauth, require: {max_age_min: 5}", "max_age_min"),
    ("token: oauth, require: {max_age_min: {second: 5}}", "max_age_min"),
])  # fmt: skip
def test_what_no_token_that_is_taken_can_hold(route, key):
    finding = only(written(clerk=clerk(), routes=routes(route)))
    assert (finding.level, finding.key) == ("warning", f"routes[0].require.{key}")
    assert "nobody passes" in finding.message


@pytest.mark.parametrize("route", [
    "token: any, require: {role: admin, scope: read}", "token: api_key, require: {org: true, claims: {plan: pro}}",
    "token: api_key, require: {scope: read}",
])  # fmt: skip
def test_what_somebody_may_hold(route):
    assert findings(written(clerk=clerk(), routes=routes(route))) == ()


@pytest.mark.parametrize("token", ["[]", "''"])
def test_a_route_that_takes_no_token_is_refused(token: str):
    finding = only(written(clerk=clerk(), routes=routes(f"token: {token}")))
    assert (finding.level, finding.key, remedy(finding)) == (
        "error", "routes[0].token", "Write token: session, or leave it out",
    )  # fmt: skip
