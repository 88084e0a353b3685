"""The nouns have few words of their own."""

import pytest

from gateway.core.model import Endpoint


@pytest.mark.parametrize(
    ("endpoint", "label"),
    [(Endpoint("app", 80), "app:80"), (Endpoint("2001:db8::1", 443), "[2001:db8::1]:443")],
    ids=["name", "ipv6"],
)
def test_an_endpoint_is_named_by_host_and_port(endpoint: Endpoint, label: str) -> None:
    assert endpoint.label == label
