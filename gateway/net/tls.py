"""TLS contexts, for clients and for upstreams, made from certificate files and made anew when those change."""

import os
import ssl
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NoReturn

from gateway.core.model import ListenTls, UpstreamTls

ALPN: Final = ["http/1.1"]
# For TLS 1.2: forward secrecy and authenticated encryption (RFC 9325 §4.2); 1.3 has nothing else.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
LOOK_EVERY: Final = 4  # sweeps
MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})

Stamp = tuple[tuple[int, ...] | None, ...]
OnEvent = Callable[..., None]


def server_context(tls: ListenTls) -> ssl.SSLContext:
    """Make the context that clients meet. Raises OSError, of which ssl.SSLError is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_common(context)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(tls.cert, tls.key, password=_refuse_passphrase)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """Make the context upstreams are met with. Raises OSError, of which ssl.SSLError is one."""
    context = ssl.create_default_context(cafile=tls.ca)  # with a CA of its own, the system's are not trusted
    _set_common(context)
    if tls.ca is not None:
        # Python 3.13 asks for every field RFC 5280 wants; authorities made at home often lack one, and turning
        # verification off for them would be the worse way out. Whoever names an authority below a root means that one.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.client_cert is not None:
        context.load_cert_chain(tls.client_cert, tls.client_key, password=_refuse_passphrase)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _set_common(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION  # CRIME
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(ALPN)


def _refuse_passphrase() -> NoReturn:
    # Without this OpenSSL would ask for it on the terminal.
    raise OSError("the key has a passphrase")


class Reread:
    """A context that follows its files. What is open lives on with the one it has; what comes next gets the new one.

    A changed file is read once it has stayed the same from one look to the next: a certificate and its key are two
    files, written one after the other. What cannot be used leaves the old context in force, and is told once.
    """

    def __init__(self, files: Sequence[str | None], make: Callable[[], ssl.SSLContext], on_event: OnEvent) -> None:
        self._files = [file for file in files if file is not None]
        self._make, self._on_event = make, on_event
        self._read = self._seen = self._stamp()
        self.context = make()

    def look(self) -> None:
        """Notice that files have changed; takes a stat of each."""
        stamp = self._stamp()
        if stamp == self._seen and stamp != self._read:
            self._read = stamp
            self._reread()
        self._seen = stamp

    def _reread(self) -> None:
        try:
            # Never into the context in use: a pair that does not match would break it for good.
            self.context = self._make()
        except OSError as error:
            effect = "the certificate read before stays in force"
            self._on_event(
                "certificate_not_read", level="error", files=self._files, why=reason_of(error), effect=effect
            )
        else:
            self._on_event("certificate_read", files=self._files)

    def _stamp(self) -> Stamp:
        # Through links: Kubernetes and certbot exchange where they lead.
        return tuple(map(_stamp, self._files))


def _stamp(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def reason_of(error: OSError) -> str:
    """Say in words why a certificate or key could not be used."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "no certificate or key in PEM form"
        return "certificate and key do not belong together" if reason in MISMATCHES else reason
    return error.strerror or str(error)


class Contexts:
    """Every context in use, by its settings. `look` is for `Deadlines.on_sweep`."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._made: dict[ListenTls | UpstreamTls, Reread] = {}
        self._looks = 0

    def server(self, tls: ListenTls) -> Reread:
        """Give the context that clients meet. Raises as `server_context`."""
        return self._of(tls, (tls.cert, tls.key, tls.client_ca), server_context)

    def client(self, tls: UpstreamTls) -> Reread:
        """Give the context an upstream is met with. Raises as `client_context`."""
        return self._of(tls, (tls.ca, tls.client_cert, tls.client_key), client_context)

    def _of(self, tls: Any, files: Sequence[str | None], make: Callable[[Any], ssl.SSLContext]) -> Reread:
        made = self._made.get(tls)
        if made is None:
            made = self._made[tls] = Reread(files, lambda: make(tls), self._on_event)
        return made

    def keep(self, used: Collection[ListenTls | UpstreamTls | None]) -> None:
        """Look after these alone from now on."""
        for tls in [tls for tls in self._made if tls not in used]:
            del self._made[tls]

    def look(self) -> None:
        """Look at all files now and then."""
        self._looks += 1
        if self._looks % LOOK_EVERY == 0:
            for made in self._made.values():
                made.look()
