"""A page that a service behind the gateway would have, without a line of Clerk's in it: it shows X-User-*, and links.

Whoever opens it is signed in: the gateway has seen to that. Words and marks only.
"""

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote


def app_page(user: Mapping[str, Any], *, here: str, issuer: str) -> str:
    """Write the page for a `user` as `user_seen` reads one; `here` is its own address, as the browser has it."""
    there = quote(here, safe="")
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(_text(value))}</td></tr>" for name, value in user.items())
    return _PAGE.format(
        name=escape(str(user.get("name") or user.get("id") or "nobody")),
        rows=rows,
        here=escape(here),
        sign_out=escape(f"{issuer}/sign-out?redirect_url={there}"),
        sign_in=escape(f"{issuer}/sign-in?redirect_url={there}"),
    )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name} · gateway dev</title>
<link rel="icon" href="/public/assets/icon.svg">
<link rel="stylesheet" href="/public/assets/page.css">
</head>
<body>
<header>
  <p class="quiet">gateway dev · a page of the sample upstream</p>
  <h1>Signed in as {name}</h1>
</header>
<main>
  <section>
    <p>The gateway told this page who you are; the page itself knows nothing of Clerk. Your session's token lives a
    minute. <a href="{here}">Load it again</a> whenever you like: a new one is fetched on the way.</p>
    <p><a id="sign-out" href="{sign_out}">Sign out</a> · <a id="sign-in" href="{sign_in}">Be somebody else</a></p>
    <table><tbody>{rows}</tbody></table>
  </section>
</main>
</body>
</html>
"""
