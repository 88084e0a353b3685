"""Where the gateway deliberately says something else than the SDK, and why. A row here that does not differ fails."""

from collections.abc import Mapping
from typing import NamedTuple


class Difference(NamedTuple):
    """What the gateway says instead, as state and reason, and the reason for it."""

    says: str
    why: str


DIFFERENCES: Mapping[str, Difference] = {}
