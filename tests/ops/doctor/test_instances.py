from gateway.ops.doctor.instances import instances_of
from tests.ops.doctor.world import configured, instance

SEVERAL = "[{name: shop, issuer: clerk.shop.example}, {name: team, issuer: team.clerk.accounts.dev}]"


def test_the_only_instance_needs_no_name():
    only = instance()
    assert (only.subject("keys"), only.key("secret_key")) == ("keys", "clerk.secret_key")
    assert only.jwks_url == "https://clerk.example.com/.well-known/jwks.json"
    assert not only.is_development
    assert only.backend is None


def test_of_several_each_is_named():
    shop, team = instances_of(configured(clerk="{}", issuers=SEVERAL))
    assert (shop.subject("keys"), shop.key("jwt_key")) == ("keys of shop", "issuers[0].jwt_key")
    assert team.is_development


def test_there_may_be_none():
    public = "[{path: /*, upstream: api, auth: public}]"
    assert instances_of(configured(clerk="{}", routes=public)) == ()
