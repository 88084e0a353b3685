"""The instance that the local issuer plays is spelt as Clerk's are."""

import pytest

from gateway.config.clerk import cookie_suffix, frontend_api
from gateway.ops.dev.instance import Instance

URL = "http://127.0.0.1:8081"


@pytest.mark.parametrize(("development", "begins"), [(True, "pk_test_"), (False, "pk_live_")])
def test_publishable_key_says_where_the_frontend_api_is(development, begins):
    key = Instance(URL, development).publishable_key
    assert key.startswith(begins)
    assert frontend_api(key).authority == "127.0.0.1:8081"


def test_suffix_is_the_gateways_own():
    for development in (True, False):
        played = Instance(URL, development)
        assert played.suffix == cookie_suffix(played.publishable_key)


def test_suffix_is_the_one_clerks_sdk_gives():
    # Computed by @clerk/backend 3.25 for the live key of clerk.example.com.
    assert Instance("https://clerk.example.com", development=False).suffix == "naoXFJnI"
