"""The page of a service behind the gateway."""

from gateway.ops.dev.app_page import app_page


def page(**user):
    return app_page(user, here="http://127.0.0.1:8080/app?a=1&b", issuer="http://127.0.0.1:8081")


def test_it_shows_who_it_was_told():
    text = page(id="user_bob", name="Bob Brown", org_permissions=["a", "b"])
    assert "Signed in as Bob Brown" in text
    assert "<td>org_permissions</td><td>a, b</td>" in text
    assert "Signed in as user_x" in page(id="user_x")
    assert "Signed in as nobody" in page()


def test_nothing_it_is_told_becomes_a_mark():
    assert "<script>" not in page(id="user_1", name="<script>alert(1)</script>", **{"<b>": "<i>"})


def test_links_lead_to_the_issuer_and_back():
    back = "redirect_url=http%3A%2F%2F127.0.0.1%3A8080%2Fapp%3Fa%3D1%26b"
    text = page(id="user_bob")
    assert f'href="http://127.0.0.1:8081/sign-out?{back}"' in text
    assert f'href="http://127.0.0.1:8081/sign-in?{back}"' in text
