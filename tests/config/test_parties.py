import pytest

from gateway.config.parties import Clerk, Delivery, UpstreamSection


def test_secrets_do_not_show():
    clerk = Clerk(
        secret_key="sk_live_abcdefgh", machine_secret_key="ak_abcdefgh", webhook_signing_secrets=("whsec_abcdefgh",)
    )
    upstream = UpstreamSection(webhooks=Delivery(secret="whsec_abcdefgh"))
    assert "abcdefgh" not in repr(clerk) + str(upstream) + clerk.model_dump_json()


@pytest.mark.parametrize(
    ("key", "default"),
    [
        pytest.param("authorized_parties", (), id="parties"),
        pytest.param("azp_missing", "reject", id="azp-missing"),
        pytest.param("audience", (), id="audience"),
        pytest.param("clock_skew_s", 5, id="skew"),
        pytest.param("handshake", False, id="handshake"),
    ],
)
def test_defaults_of_an_instance_are_the_contracts(key, default):
    assert getattr(Clerk(), key) == default


def test_defaults_of_an_upstream_are_the_contracts():
    upstream = UpstreamSection()
    assert (upstream.host_header, upstream.identity, upstream.forward_token) == ("preserve", True, False)
    assert (upstream.max_connections, upstream.max_pending, upstream.tls.verify) == (512, 1024, True)
    assert (upstream.retries.attempts, upstream.breaker.failures, upstream.health.path) == (1, 5, None)
