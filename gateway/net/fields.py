"""What becomes of the fields of an answer's head, judged once by each spelling of a name."""

REMEMBERED_NAMES = 2048
DROP, LENGTH, CODING, CONNECTION, UPGRADE, CORS = range(6)
# RFC 9110 §7.6.1; X-Request-Id is replaced by the gateway's own.
SPECIAL = {
    b"connection": CONNECTION, b"keep-alive": DROP, b"proxy-connection": DROP, b"te": DROP, b"trailer": DROP,
    b"upgrade": UPGRADE, b"proxy-authenticate": DROP, b"x-request-id": DROP, b"content-length": LENGTH,
    b"transfer-encoding": CODING,
}  # fmt: skip
judged: dict[bytes, bytes | int] = {}


def judge(name: bytes) -> bytes | int:
    """Give a field's ready prefix `b"\\r\\nName: "`, or what is special about it; remembered by spelling."""
    low = name.lower()
    verdict: bytes | int = SPECIAL.get(low, CORS if low.startswith(b"access-control-") else b"\r\n%b: " % name)
    if len(judged) < REMEMBERED_NAMES and len(name) <= 64:
        judged[name] = verdict
    return verdict
