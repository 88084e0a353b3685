"""A whole set-up on loopback for the doctor to look at: an issuer, Clerk's Backend API, an upstream; and the command.

async with scene() as world: world.settings(…); code, found = await world.doctor(token=…)
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.ops.doctor.diagnosis import Diagnosis
from gateway.ops.doctor.evidence import read_evidence
from gateway.ops.doctor.run import doctor
from tests.fakes.clerk import FakeClerk, FakeIssuer
from tests.fakes.clerk_api import FakeBackendApi, World
from tests.fakes.gateway import APP, settings
from tests.fakes.upstream import Echo, ScriptedUpstream

SECRET_KEY = "sk_live_abcdefgh"
WEBHOOK_SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"


class Scene:
    """What there is, and the configuration that names it; any of it may be bent before the doctor comes."""

    def __init__(
        self, clerk: FakeClerk, issuer: FakeIssuer, api: FakeBackendApi, upstream: ScriptedUpstream, folder: Path
    ):
        self.clerk, self.issuer, self.api, self.upstream, self.folder = clerk, issuer, api, upstream, folder
        self.echo: Echo | None = None
        self.sections: dict[str, Any] = {"store": {"url": f"sqlite:///{folder / 'gateway.db'}"}, "listen": {"port": 1}}
        self.clerk_section: dict[str, Any] = {
            "issuer": issuer.url, "secret_key": SECRET_KEY, "api_url": api.url, "authorized_parties": [APP],
            "webhook_signing_secrets": [WEBHOOK_SECRET],
        }  # fmt: skip
        self.clock: Callable[[], float] = time.time

    @property
    def text(self) -> str:
        """The configuration file."""
        return yaml.safe_dump(settings(self.upstream.port, clerk=self.clerk_section, **self.sections))

    def token(self, **claims: Any) -> str:
        """Sign a token that is good now."""
        return self.clerk.session_token(time.time(), **claims)

    async def output(self, *, as_json: bool = False, terminal: bool = False, **evidence: Any) -> tuple[int, list[str]]:
        """Run the command; give its code and what it wrote."""
        file, written = self.folder / "gateway.yaml", list[str]()
        file.write_text(self.text)

        def write(message: str, *, nl: bool = True) -> None:
            written.append(message)

        def run() -> int:
            options = {"as_json": as_json, "terminal": terminal, "write": write, "clock": self.clock}
            return doctor(str(file), {}, read_evidence(**evidence), **options)

        return await asyncio.to_thread(run), written

    async def doctor(self, **evidence: Any) -> tuple[int, list[Diagnosis]]:
        """Run the command; give its code and what it found."""
        code, (line,) = await self.output(as_json=True, **evidence)
        return code, [Diagnosis(**each) for each in json.loads(line)]


@asynccontextmanager
async def scene(folder: Path, *, script: Any = None) -> AsyncIterator[Scene]:
    """Set everything up, well."""
    clerk, echo = FakeClerk(), Echo()
    issuer, api = FakeIssuer(clerk), FakeBackendApi(World(), secret_key=SECRET_KEY, clerk=clerk)
    async with issuer, api, ScriptedUpstream(script or echo) as upstream:
        clerk.issuer = issuer.url
        api.population.add_user("user_1")  # type: ignore[attr-defined]
        made = Scene(clerk, issuer, api, upstream, folder)
        made.echo = echo
        yield made


def of(found: list[Diagnosis], subject: str) -> list[Diagnosis]:
    """Give what was found of a subject."""
    return [each for each in found if each.subject == subject]
