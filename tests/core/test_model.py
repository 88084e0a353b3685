"""The nouns have few words of their own."""

import pytest

from gateway.core.model import Endpoint, StoreAddress


@pytest.mark.parametrize(
    ("endpoint", "label"),
    [(Endpoint("app", 80), "app:80"), (Endpoint("2001:db8::1", 443), "[2001:db8::1]:443")],
    ids=["name", "ipv6"],
)
def test_an_endpoint_is_named_by_host_and_port(endpoint: Endpoint, label: str) -> None:
    assert endpoint.label == label


def test_a_store_s_address_is_shown_without_its_password():
    assert str(StoreAddress("sqlite:////data/gateway.db")) == "sqlite:////data/gateway.db"
    address = StoreAddress("postgresql://gateway:p%40ss@db.internal/gateway?password=hunter2")
    assert str(address) == "postgresql://…@db.internal/gateway"
    assert "p%40ss" not in repr(address)


def test_a_store_is_a_file_or_a_server() -> None:
    assert StoreAddress("sqlite:////data/gateway.db").file == "/data/gateway.db"
    assert StoreAddress("sqlite:///gateway.db").file == "gateway.db"
    assert StoreAddress("postgresql://db/gateway").file is None
