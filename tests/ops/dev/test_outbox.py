"""The issuer's webhooks: each is verified by the `svix` library where it arrives."""

import json

import pytest
from aiohttp import web
from svix.webhooks import Webhook, WebhookVerificationError

from gateway.ops.dev.happenings import Happening
from gateway.ops.dev.outbox import KEPT, Outbox
from gateway.ops.dev.sending import Manner, new_secret

SECRET = new_secret()


class Receiver:
    """Takes what is genuine, as a handler would; `answers` may say otherwise first."""

    def __init__(self):
        self.got: list[tuple[str, str]] = []
        self.seen: set[str] = set()
        self.answers: list[int] = []

    async def receive(self, request):
        body = await request.read()
        if self.answers:
            return web.json_response({"code": "store_unavailable"}, status=self.answers.pop(0))
        try:
            Webhook(SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            return web.json_response({"code": "bad_request", "reason": str(error)}, status=400)
        self.got.append((request.headers["svix-id"], json.loads(body)["data"]["n"]))
        repeated = request.headers["svix-id"] in self.seen
        self.seen.add(request.headers["svix-id"])
        return web.json_response({"status": "repeated" if repeated else "stored"})

    @property
    def numbers(self):
        return [number for _, number in self.got]


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
async def outbox(receiver, aiohttp_server):
    app = web.Application()
    app.router.add_post("/webhooks/clerk", receiver.receive)
    url = str((await aiohttp_server(app)).make_url("/webhooks/clerk"))
    box = Outbox(url, SECRET, instance="ins_dev", pauses_s=(0.0, 0.0))
    box.start()
    yield box
    await box.close()


def happening(number, who="user_1", kind="user.updated"):
    return Happening(kind, {"id": who, "n": number})


async def test_what_happens_is_told_in_order(outbox, receiver):
    first = outbox.post([happening(1), happening(2)])
    outbox.post([happening(3)])
    await outbox.settle()
    assert receiver.numbers == [1, 2, 3]
    assert [each.shown()["answer"] for each in first] == ["stored", "stored"]
    assert [each.message.about for each in outbox.sent] == ["user_1"] * 3


async def test_the_list_is_the_newest_first_and_no_longer_than_it_may_be(outbox):
    outbox.post([happening(number) for number in range(KEPT + 5)])
    await outbox.settle()
    shown = [json.loads(each.message.body)["data"]["n"] for each in outbox.sent]
    assert shown == list(range(KEPT + 4, 4, -1))


async def test_twice_is_one_id(outbox, receiver):
    (sent,) = outbox.post([happening(1)], twice=True)
    await outbox.settle()
    assert receiver.got == [(sent.message.id, 1)] * 2
    assert [each["answer"] for each in sent.shown()["answers"]] == ["stored", "repeated"]


async def test_again_is_the_same_id_and_body(outbox, receiver):
    (sent,) = outbox.post([happening(1)])
    await outbox.settle()
    assert outbox.again(sent.message.id) is sent
    await outbox.settle()
    assert receiver.got == [(sent.message.id, 1)] * 2
    assert (sent.shown()["times"], sent.shown()["answer"]) == (2, "repeated")


async def test_what_is_held_back_goes_after_the_next_of_its_kind(outbox, receiver):
    (held,) = outbox.post([happening(1)], hold=True)
    outbox.post([happening(2, "user_2"), happening(3, kind="session.created")])
    await outbox.settle()
    assert receiver.numbers == [2, 3]
    assert (held.shown()["held"], held.shown()["answer"]) == (True, "held back")
    outbox.post([happening(4)])
    await outbox.settle()
    assert receiver.numbers == [2, 3, 4, 1]
    assert not held.shown()["held"]
    outbox.post([happening(5)])
    await outbox.settle()
    assert receiver.numbers == [2, 3, 4, 1, 5]


async def test_what_is_held_back_can_be_sent_by_hand(outbox, receiver):
    (held,) = outbox.post([happening(1)], hold=True, twice=True)
    outbox.again(held.message.id)
    outbox.post([happening(2)])
    await outbox.settle()
    assert receiver.numbers == [1, 1, 2]


async def test_forged_and_old_ones_are_refused_and_stay_what_they_are(outbox, receiver):
    (forged,) = outbox.post([happening(1)], Manner(bad_signature=True))
    (old,) = outbox.post([happening(2)], Manner(old_s=600))
    await outbox.settle()
    outbox.again(forged.message.id)
    await outbox.settle()
    assert receiver.got == []
    assert [each.shown()["status"] for each in (forged, old)] == [400, 400]
    assert not forged.shown()["good"]


async def test_a_true_one_can_be_sent_again_as_a_forged_one(outbox, receiver):
    (sent,) = outbox.post([happening(1)])
    outbox.again(sent.message.id, Manner(bad_signature=True))
    await outbox.settle()
    assert sent.shown()["status"] == 400


async def test_a_store_that_is_not_open_yet_is_asked_again(outbox, receiver):
    receiver.answers = [503, 503]
    (sent,) = outbox.post([happening(1)])
    await outbox.settle()
    assert (receiver.numbers, sent.shown()["times"], sent.shown()["good"]) == ([1], 1, True)


async def test_it_is_asked_only_so_often_and_never_about_what_it_refused(outbox, receiver):
    receiver.answers = [503, 503, 503, 400]
    first, second, third = outbox.post([happening(1), happening(2), happening(3)])
    await outbox.settle()
    assert [each.shown()["status"] for each in (first, second, third)] == [503, 400, 200]


async def test_nobody_listening_stops_nothing(outbox, receiver):
    lost = Outbox("http://127.0.0.1:1/", SECRET, instance="ins_dev", pauses_s=())
    lost.start()
    (sent,) = lost.post([happening(1)])
    await lost.settle()
    await lost.close()
    assert (sent.shown()["status"], sent.shown()["answer"], sent.shown()["good"]) == (None, "Connection refused", False)


async def test_an_id_there_is_not_is_said(outbox):
    with pytest.raises(ValueError, match="no event 'msg_x'"):
        outbox.again("msg_x")


async def test_what_is_composed_is_of_this_instance_and_now(outbox):
    message = outbox.compose(happening(1))
    told = json.loads(message.body)
    assert (told["instance_id"], told["type"], message.type) == ("ins_dev", "user.updated", "user.updated")
    Webhook(SECRET).verify(message.body, outbox.signed(message, Manner()))


async def test_close_before_start_is_nothing():
    await Outbox("http://127.0.0.1:1/", SECRET, instance="ins_dev").close()
