import json

import pytest

from gateway.core.verify import KeySet, key_set_from_pem
from gateway.ops.doctor.asking import Answer, Unreached
from gateway.ops.doctor.instances import Known
from gateway.ops.doctor.keys import belonging, key_set, proxied, read_key_set, share_key, webhook_instance
from tests.fakes.clerk import public_jwk, rsa_key
from tests.ops.doctor.world import CLERK, KEYED, OTHER, SECRET, answer, instance, jwks_of, keys_of, levels, pem_of, said

HTML = b"<!DOCTYPE html><title>Sign in to the guest network</title>"
HUNDREDS = json.dumps({"keys": [CLERK.jwk(kid=f"ins_{n}") for n in range(300)]}).encode()
STATIC = f"{{issuer: clerk.example.com, jwt_key: {pem_of(CLERK)}}}"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param(Unreached("dns", "Name or service not known"), ["cannot be resolved", "CNAME clerk."], id="dns"),
        pytest.param(Unreached("tls", "self-signed certificate"), ["TLS fails (self-signed", "SSL_CERT_FILE"], id="tls"),
        pytest.param(Unreached("refused"), ["is refused", "spelt right, and its port", "firewall", "CLERK_JWT_KEY"], id="refused"),
        pytest.param(Unreached("timeout"), ["no answer in time", "firewall"], id="timeout"),
        pytest.param(Unreached("not-http"), ["is not HTTP"], id="not-http"),
        pytest.param(Unreached("link-local"), ["link-local"], id="link-local"),
        pytest.param(answer(301, location="https://www.example.com/?x=1"), ["301 to https://www.example.com/, and"], id="redirect"),
        pytest.param(answer(404), ["404: there is no key set", "Frontend API URL"], id="missing"),
        pytest.param(answer(403), ["answers 403"], id="forbidden"),
        pytest.param(answer(500), ["answers 500", "status.clerk.com"], id="down"),
        pytest.param(answer(429), ["answers 429"], id="limited"),
        pytest.param(answer(200, HTML), ["web page", "captive portal"], id="html"),
        pytest.param(answer(200, b"nonsense"), ["not JSON"], id="nonsense"),
        pytest.param(answer(200, {"keys": []}), ["the set is empty"], id="empty"),
        pytest.param(answer(200, {"users": []}), ['no list "keys"'], id="something-else"),
        pytest.param(answer(200, HUNDREDS), ["too many keys: 300"], id="hundreds"),
        pytest.param(answer(200, b" " * 300_000), ["larger than 262144 bytes"], id="huge"),
        pytest.param(answer(200, {"keys": [public_jwk(rsa_key("small", 1024), "ins_small")]}), ["1024 bits"], id="weak"),
    ],
)  # fmt: skip
def test_a_key_set_that_cannot_be_had_is_an_error_with_a_remedy(asked, words):
    found = key_set(instance(), asked)
    assert found.level == "error"
    assert found.remedy
    assert "503 keys_unavailable" in found.found
    for word in words:
        assert word in said(found)


def test_a_good_key_set_is_counted():
    found = key_set(instance(), answer(200, jwks_of(CLERK)))
    assert (found.level, found.found) == ("ok", "https://clerk.example.com/.well-known/jwks.json: 1 key, ins_test")


def test_with_a_key_of_its_own_a_missing_set_is_no_error():
    found = key_set(instance(STATIC), Unreached("dns"))
    assert found.level == "warning"
    assert "jwt_key cannot be compared" in found.found


def test_a_key_set_at_an_address_of_its_own_is_asked_to_go():
    odd = instance("{issuer: clerk.example.com, jwks_url: 'https://x.example/keys?token=abc'}")
    found = said(key_set(odd, answer(404)))
    assert "Leave clerk.jwks_url out" in found
    assert "abc" not in found


@pytest.mark.parametrize(
    ("static", "known", "level", "words"),
    [
        pytest.param(CLERK, Known(keys_of(CLERK)), "ok", "one of the issuer's keys", id="fits"),
        pytest.param(CLERK, Known(keys_of(OTHER)), "error", "not among the 1 keys", id="another-instance"),
        pytest.param(CLERK, Known(), "skipped", "compared with none", id="not-known"),
    ],
)
def test_a_jwt_key_must_be_among_the_issuers_keys(static, known, level, words):
    only = instance(f"{{issuer: clerk.example.com, jwt_key: {pem_of(static)}}}")
    (found,) = belonging(only, known)
    assert (found.level, found.subject) == (level, "jwt_key")
    assert words in found.found


@pytest.mark.parametrize(
    ("known", "level", "words"),
    [
        pytest.param(Known(keys_of(CLERK), keys_of(CLERK)), "ok", "one instance, ins_test", id="fits"),
        pytest.param(
            Known(keys_of(CLERK), keys_of(OTHER)), "error", "mixed keys: the secret key is of ins_other", id="mixed"
        ),
        pytest.param(Known(None, keys_of(OTHER)), "skipped", "cannot be told", id="not-known"),
    ],
)
def test_issuer_and_secret_key_must_be_of_one_instance(known, level, words):
    (found,) = belonging(instance(KEYED), known)
    assert (found.level, found.subject) == (level, "instance")
    assert words in found.found


def test_with_a_jwt_key_alone_the_secret_key_is_compared_with_that():
    only = instance(f"{{issuer: clerk.example.com, jwt_key: {pem_of(CLERK)}}}")
    assert levels(belonging(only, Known(None, keys_of(OTHER)))) == ["skipped", "error"]


def test_without_anything_to_compare_nothing_is_said():
    assert belonging(instance(), Known(keys_of(CLERK))) == []


def test_keys_are_compared_by_content():
    assert share_key(keys_of(CLERK), key_set_from_pem(CLERK.pem()))
    assert not share_key(keys_of(CLERK), keys_of(OTHER))
    assert not share_key(keys_of(CLERK), KeySet({}))


@pytest.mark.parametrize(
    ("named", "known", "level"),
    [
        pytest.param("ins_test", Known(keys_of(CLERK)), [], id="fits"),
        pytest.param("ins_x", Known(keys_of(CLERK)), ["error"], id="another"),
        pytest.param(None, Known(keys_of(CLERK)), [], id="not-named"),
        pytest.param("ins_x", Known(), [], id="keys-not-known"),
    ],
)
def test_webhooks_must_be_of_the_instance_that_tokens_come_from(named, known, level):
    assert levels(webhook_instance(instance(), named, known)) == level


PROXIED = f"{{issuer: clerk.example.com, secret_key: {SECRET}, proxy_path: /__clerk, proxy_url: 'https://api.example.com/__clerk'}}"


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        pytest.param(answer(200, jwks_of(CLERK)), "ok", "leads to the Frontend API", id="good"),
        pytest.param(
            answer(200, jwks_of(OTHER)), "error", "leads to another instance, ins_other", id="another-instance"
        ),
        pytest.param(answer(200, HTML), "error", "status 200, a web page", id="html"),
        pytest.param(answer(404), "error", "status 404", id="not-passed-on"),
        pytest.param(answer(502), "warning", "status 502", id="not-running"),
        pytest.param(Unreached("dns"), "error", "cannot be resolved", id="dns"),
        pytest.param(Unreached("refused"), "warning", "is refused", id="refused"),
    ],
)
def test_the_frontend_apis_proxy_must_lead_to_this_instance(asked, level, words):
    found = proxied(instance(PROXIED), asked, keys_of(CLERK))
    assert (found.level, found.subject) == (level, "proxy")
    assert "https://api.example.com/__clerk" in found.found
    assert words in said(found)


def test_a_proxy_is_not_blamed_for_keys_that_are_not_known():
    assert proxied(instance(PROXIED), answer(200, jwks_of(OTHER)), None).level == "ok"


def test_keys_are_read_from_good_answers_alone():
    assert read_key_set(answer(200, jwks_of(CLERK))) == keys_of(CLERK)
    for bad in (None, Unreached("dns"), answer(500, jwks_of(CLERK)), Answer(200, {}, b"x")):
        assert read_key_set(bad) is None
