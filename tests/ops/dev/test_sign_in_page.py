"""The local issuer's sign-in page."""

from dataclasses import replace

from gateway.ops.dev.people import PEOPLE
from gateway.ops.dev.sign_in_page import sign_in_page

URL = "http://127.0.0.1:8080/app?a=1&b"


def test_a_button_for_everybody():
    text = sign_in_page(PEOPLE, URL, signed_in=None).text
    for person in PEOPLE:
        assert f'<button name="user" value="{person.id}">{person.name}</button>' in text
    assert 'name="redirect_url" value="http://127.0.0.1:8080/app?a=1&amp;b"' in text
    assert "is signed in" not in text
    assert "alert" not in text


def test_who_is_signed_in_may_go_on_or_out():
    text = sign_in_page(PEOPLE, URL, signed_in="user_bob").text
    assert "Bob Brown is signed in" in text
    assert '<a href="http://127.0.0.1:8080/app?a=1&amp;b">Go on</a>' in text
    assert "/sign-out?redirect_url=http%3A%2F%2F127.0.0.1%3A8080%2Fapp%3Fa%3D1%26b" in text
    assert "user_x is signed in" in sign_in_page(PEOPLE, URL, signed_in="user_x").text


def test_why_not_is_said():
    response = sign_in_page(PEOPLE, URL, signed_in=None, why="user_bob is <banned>")
    assert response.status == 400
    assert '<p class="notice" role="alert">user_bob is &lt;banned&gt;</p>' in response.text


def test_names_are_no_marks_and_states_are_shown():
    mallory = replace(PEOPLE[1], given_name="<script>", email='"><img src=x>', banned=True)
    text = sign_in_page([mallory], URL, signed_in=mallory.id).text
    assert "<script>" not in text
    assert "<img" not in text
    assert "banned" in text


def test_nothing_is_loaded_run_or_framed():
    headers = sign_in_page(PEOPLE, URL, signed_in=None).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
