"""Where the local issuer sends a browser: only to pages of this machine. Pure."""

import re
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

LOOPBACK = r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"
# What a browser would read otherwise than urlsplit does: it drops tabs and line breaks, and takes \ for /.
_PLAIN = re.compile(r"[!-\[\]-~]{1,8192}")
_ORIGIN = re.compile("https?://" + LOOPBACK)


def check_redirect(url: str) -> str:
    """Give a redirect address back, where it is one of this machine's.

    Raises:
        ValueError: it is not, or malformed.
    """
    if not _PLAIN.fullmatch(url) or not _ORIGIN.fullmatch(origin_of(url)):
        raise ValueError(
            "redirect_url is the whole address of a page of this machine, such as http://127.0.0.1:8080/app"
        )
    return url


def origin_of(url: str) -> str:
    """Give the origin of an address, as browsers write it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()


def with_query(url: str, fields: dict[str, str]) -> str:
    """Give an address with these query fields, in place of any of their names it has; the others stay as written."""
    parts = urlsplit(url)
    kept = [each for each in parts.query.split("&") if each and unquote_plus(each.partition("=")[0]) not in fields]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(fields)])))
