"""The signed assertion without its keys: signed as the gateway would, by a key that is gone when the story is told.

The gateway's own keys are not touched: looking at their directory may make the next one.
"""

from collections.abc import Callable

from gateway.core.assertion import AssertionPolicy
from gateway.core.rotation import KeyLife
from gateway.store.keyring import Looked
from gateway.store.signing_keys import key_id, new_private_key, signing_key
from gateway.web.assertions import Assertions, Keys, OnEvent, Signer


class PassingAssertions(Assertions):
    """Makes signers whose signatures nobody will verify."""

    def __init__(self, on_event: OnEvent, *, now: Callable[[], float]) -> None:
        super().__init__(on_event, now=now, monotonic=now)
        self._tell_of, self._clock = on_event, now

    async def signer(self, policy: AssertionPolicy | None, random_bits: Callable[[int], int]) -> Signer | None:
        """Make the signer of a configuration; None where nothing is signed."""
        if policy is None:
            return None
        private = new_private_key(policy.algorithm)
        life = KeyLife(1, self._clock(), self._clock(), key_id(private), policy.algorithm)
        key = signing_key(life, private)
        keys = Keys(Looked((key,), key))
        return Signer(policy, keys, now=self._clock, random_bits=random_bits, on_event=self._tell_of)
