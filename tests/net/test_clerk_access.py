import pytest

from gateway.core.model import BackendAddress
from gateway.net.clerk_access import ClerkAccess, Enders
from tests.fakes.clerk_api import FakeBackendApi, World


async def test_nobody_is_asked_without_a_key() -> None:
    access = ClerkAccess(dict)
    assert access.get() is None
    await access.close()


async def test_the_client_is_the_same_until_the_configuration_changes() -> None:
    world = World()
    world.add_user("user_1")
    async with FakeBackendApi(world) as clerk:
        address = BackendAddress(clerk.url, "sk_live_wrongwrong")
        access = ClerkAccess(lambda: {"clerk": address})
        first = access.get()
        assert first is not None
        assert access.get() is first
        address = BackendAddress(clerk.url, clerk.secret_key)
        second = access.get()
        assert second is not None
        assert second is not first
        assert await second.count_users() == 1
        await access.close()
        assert clerk.secret_key not in repr(address)


@pytest.mark.parametrize("count", [1, 2])
async def test_closing_what_nobody_asked_with(count: int) -> None:
    access = ClerkAccess(lambda: {"clerk": BackendAddress("https://api.example.com", "sk_live_abcdefgh")})
    for _ in range(count):
        await access.close()


async def test_each_instance_has_its_own_client_and_a_session_is_ended_wherever_it_is() -> None:
    one, other = World(), World()
    other.sessions["sess_1"] = {"id": "sess_1", "status": "active"}
    async with FakeBackendApi(one) as first, FakeBackendApi(other) as second:
        access = ClerkAccess(lambda: {each.url: BackendAddress(each.url, each.secret_key) for each in (first, second)})
        assert access.get() is None  # which of them nobody said
        assert access.get("elsewhere") is None
        assert access.get(first.url) is not access.get(second.url)
        assert access.all() == (access.get(first.url), access.get(second.url))
        assert await Enders(access.all()).revoke_session("sess_1")
        assert not await Enders(access.all()).revoke_session("sess_2")
        assert len(first.requests) == len(second.requests) == 2
        await access.close()
