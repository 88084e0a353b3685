from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.events import WebhookPolicy
from gateway.core.model import StoreAddress
from gateway.core.reconcile import SyncPolicy
from gateway.errors import StoreDown
from gateway.net.clerk_access import ClerkAccess
from gateway.net.tls import Contexts
from gateway.telemetry import LineWriter, Log
from gateway.web.records import Records


async def test_a_store_is_opened_where_one_is_needed(tmp_path: Path) -> None:
    gateway: Any = SimpleNamespace(webhooks=WebhookPolicy(), subscriptions=(), sync=SyncPolicy(), keys=None)
    with (tmp_path / "log").open("w") as file:
        log = Log(LineWriter(file.fileno()))
        clerk = ClerkAccess(lambda: None)
        records = Records(gateway, log, Contexts(log.event), clerk, now=lambda: 0.0, changed=lambda _: None)
        records.open(None)
        assert records.is_up
        with pytest.raises(StoreDown):
            records.store  # noqa: B018
        records.open(StoreAddress(f"sqlite:///{tmp_path}/gateway.db"))
        opened = records.store
        assert not records.is_up  # not yet
        assert records.people is not None
        records.start()
        records.open(StoreAddress("sqlite:///another"))
        assert records.store is opened
        await records.close()
        log.close()
