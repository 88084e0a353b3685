from datetime import timedelta

import pytest

from gateway.config.certificates import MAX_BYTES, WEAK, check_authority, check_pair, read_certificates, read_key
from gateway.config.findings import Report
from tests.fakes.certificates import authority

CERT, KEY = ("listen", "tls", "cert"), ("listen", "tls", "key")
DAY = timedelta(days=1)


def checked(pair, **changed):
    report = Report("gateway.yaml")
    check_pair((CERT, changed.get("cert", pair.cert)), (KEY, changed.get("key", pair.key)), report)
    return [(finding.level, finding.key.rpartition(".")[2], finding.message) for finding in report.findings]


@pytest.fixture
def pair(tmp_path):
    return authority().issue("a.example").write(tmp_path, "server")


def test_a_good_pair_has_no_finding(pair):
    assert checked(pair) == []


def test_a_chain_behind_the_own_certificate_is_good(pair, tmp_path):
    (tmp_path / "chain.pem").write_bytes((tmp_path / "server.pem").read_bytes() + authority().pem)
    assert checked(pair, cert=str(tmp_path / "chain.pem")) == []


def test_a_chain_in_the_wrong_order_is_told_apart_from_a_foreign_key(pair, tmp_path):
    (tmp_path / "chain.pem").write_bytes(authority().pem + (tmp_path / "server.pem").read_bytes())
    ((level, key, message),) = checked(pair, cert=str(tmp_path / "chain.pem"))
    assert (level, key) == ("error", "cert")
    assert message.startswith("its first certificate is not the key's")
    foreign = authority().issue("a.example").write(tmp_path, "foreign")
    assert checked(pair, key=foreign.key) == [("error", "cert", f'does not belong to the key "{foreign.key}"')]


@pytest.mark.parametrize("part", ["cert", "key"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="missing"),
        pytest.param("folder", "cannot be read: Is a directory", id="folder"),
        pytest.param(b"", "in PEM form, or a broken one", id="empty"),
        pytest.param(b"\xff\x00", "in PEM form, or a broken one", id="binary"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "in PEM form", id="broken"),
        pytest.param(bytes(MAX_BYTES + 1), "is larger than", id="endless"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(pair, tmp_path, part, content, message):
    file = tmp_path / "other.pem"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    ((level, key, said),) = checked(pair, **{part: str(file)})
    assert (level, key) == ("error", part)
    assert said.startswith(f'"{file}" ')
    assert message in said


def test_a_file_that_may_not_be_read_and_a_name_that_is_none(pair):
    ((_, _, said),) = checked(pair, key="a\0b")
    assert said.endswith("cannot be read: not a file name")


def test_a_key_with_a_passphrase_says_so(tmp_path):
    locked = authority().issue("a.example", passphrase=b"secret").write(tmp_path, "locked")
    ((level, key, message),) = checked(locked)
    assert (level, key, "has a passphrase" in message) == ("error", "key", True)


@pytest.mark.parametrize(
    ("begins", "ends", "message"),
    [(-3 * DAY, -2 * DAY, "expired on "), (2 * DAY, 3 * DAY, "is good only from ")],
    ids=["expired", "not-yet"],
)
def test_dates_are_warned_of(tmp_path, begins, ends, message):
    pair = authority().issue("a.example", begins=begins, ends=ends).write(tmp_path, "server")
    ((level, key, said),) = checked(pair)
    assert (level, key, said.startswith(message)) == ("warning", "cert", True)


def test_what_openssl_itself_will_not_take_is_an_error(pair, monkeypatch):
    import ssl

    def refuses(self, *_files):
        error = ssl.SSLError(1, "key too small")
        error.reason = "EE_KEY_TOO_SMALL"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuses)
    report = Report("gateway.yaml")
    check_pair((CERT, pair.cert), (KEY, pair.key), report)
    assert [str(finding) for finding in report.findings] == [
        f"gateway.yaml: listen.tls.cert: OpenSSL does not take it: EE_KEY_TOO_SMALL. {WEAK}"
    ]


def test_an_authority_is_a_certificate(pair, tmp_path):
    report = Report("gateway.yaml")
    check_authority(("a",), authority().write(tmp_path), report)
    assert report.findings == []
    check_authority(("a",), pair.key, report)
    (finding,) = report.findings
    assert "has no certificate" in finding.message


def test_what_is_read_is_what_is_there(pair):
    assert len(read_certificates(pair.cert)) == 1
    assert read_key(pair.key).public_key() == read_certificates(pair.cert)[0].public_key()
