"""The local issuer's sign-in page: one button for each user, no password and no script. Words and marks only."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from aiohttp import web

from gateway.ops.dev.people import Person

# The answer to the form leads on to the application, and browsers hold every step of that against form-action (which
# has no way to write [::1]).
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self' http://127.0.0.1:* http://localhost:*"
)
_HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}


def sign_in_page(people: Sequence[Person], url: str, *, signed_in: str | None, why: str = "") -> web.Response:
    """Write the page; `url` is where to go afterwards, `signed_in` who is already, `why` what was wrong."""
    text = _PAGE.format(
        notice=f'<p class="notice" role="alert">{escape(why)}</p>' if why else "",
        signed_in=_signed_in(people, signed_in, url),
        users="".join(_button(person) for person in people),
        redirect=escape(url),
    )
    return web.Response(text=text, content_type="text/html", headers=_HEADERS, status=400 if why else 200)


def _signed_in(people: Sequence[Person], user_id: str | None, url: str) -> str:
    if user_id is None:
        return ""
    name = next((person.name for person in people if person.id == user_id), "") or user_id
    out = f"/sign-out?redirect_url={quote(url, safe='')}"
    return (
        f'<p>{escape(name)} is signed in with this browser. <a href="{escape(url)}">Go on</a> or '
        f'<a href="{escape(out)}">sign out</a>.</p>'
    )


def _button(person: Person) -> str:
    where = ", ".join(f"{held.role.removeprefix('org:')} of {held.organisation.name}" for held in person.memberships)
    states = [word for word in ("banned", "locked", "pending") if getattr(person, word)]
    words = " · ".join(filter(None, (person.email, where, *states)))
    return (
        f'<div class="row"><button name="user" value="{escape(person.id)}">{escape(person.name or person.id)}</button>'
        f'<span class="quiet">{escape(words)}</span></div>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · gateway dev</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/page.css">
</head>
<body>
<header>
  <p class="quiet">gateway dev · the local issuer, in Clerk's place</p>
  <h1>Sign in</h1>
</header>
<main>
  <section>
    {notice}
    {signed_in}
    <form class="people" method="post" action="/sign-in">
      <input type="hidden" name="redirect_url" value="{redirect}">
      {users}
    </form>
  </section>
</main>
</body>
</html>
"""
