"""Certificates: which is shown to whom, which protocols are spoken, and what is said of a file that can't be used."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from balancer.accept.tls import TlsContexts
from balancer.accept.tls_socket import TlsSocket
from tests.balancer.certificates import EC, client_context, make_certificate, openssl, shaken

DAY_S = 86400.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    return make_certificate(folder, "site.example", "*.site.example")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Path:
    return make_certificate(folder, "shop.example", "WWW.Shop.Example", "pay.site.example", "site.example")


@pytest.fixture(scope="module")
def contexts(site: Path, shop: Path) -> TlsContexts:
    return TlsContexts([site, shop])


def shown(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLSocket:
    """The client's end, its handshake done; both ends are closed."""
    asking, tls = shaken(server, client, name)
    tls.close()
    asking.close()
    return asking


def common_name(contexts: TlsContexts, site: Path, shop: Path, name: str | None) -> str:
    """Whose certificate a client is shown that asks for `name`."""
    client = client_context(site, shop)
    client.check_hostname = False
    asking, tls = shaken(contexts.server, client, name)
    certificate = asking.getpeercert()
    tls.close()
    asking.close()
    assert certificate is not None
    subject: tuple[tuple[tuple[str, str], ...], ...] = certificate["subject"]  # type: ignore[assignment]
    return subject[0][0][1]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("site.example", "site.example"),  # both have it: the first
        ("shop.example", "shop.example"),
        ("SHOP.example", "shop.example"),
        ("www.shop.example", "shop.example"),
        ("news.site.example", "site.example"),
        ("pay.site.example", "shop.example"),  # exact before wildcard
        ("very.new.site.example", "site.example"),  # nobody's: the first
        ("mail.shop.example", "site.example"),
        ("elsewhere.example", "site.example"),
        (None, "site.example"),
    ],
)
def test_sni_chooses_the_certificate(
    contexts: TlsContexts, site: Path, shop: Path, asked: str | None, given: str
) -> None:
    assert common_name(contexts, site, shop, asked) == given


def test_a_wildcard_is_for_one_label_only(folder: Path, site: Path, shop: Path) -> None:
    contexts = TlsContexts([shop, site])
    assert common_name(contexts, site, shop, "a.site.example") == "site.example"
    assert common_name(contexts, site, shop, "a.b.site.example") == "shop.example"


def test_a_client_that_checks_everything_is_content(contexts: TlsContexts, site: Path, shop: Path) -> None:
    for name in ("site.example", "news.site.example", "shop.example", "www.shop.example"):
        shown(contexts.server, client_context(site, shop), name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["site.example", "shop.example"])
def test_tls_1_2_and_1_3_are_spoken(contexts: TlsContexts, version: ssl.TLSVersion, name: str) -> None:
    client = client_context()
    client.minimum_version = client.maximum_version = version
    asking, tls = shaken(contexts.server, client, name)
    assert asking.version() == tls.version() == version.name.replace("_", ".")
    tls.close()
    asking.close()


@pytest.mark.parametrize("name", ["site.example", "shop.example"])
def test_tls_1_1_is_refused_and_told_so(contexts: TlsContexts, name: str) -> None:
    client = client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError) as refused:
        shown(contexts.server, client, name)
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_cipher_without_forward_secrecy_or_authentication_is_refused(folder: Path) -> None:
    rsa = make_certificate(folder, "rsa.example", key=("-newkey", "rsa:2048"))
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    contexts = TlsContexts([rsa])
    shown(contexts.server, client, "rsa.example")
    for ciphers in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"):  # the key itself encrypts; CBC
        client.set_ciphers(ciphers)
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            shown(contexts.server, client, "rsa.example")


@pytest.mark.parametrize("name", ["site.example", "shop.example"])
def test_http_1_1_is_what_is_agreed_on(contexts: TlsContexts, name: str) -> None:
    client = client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    asking, tls = shaken(contexts.server, client, name)
    assert asking.selected_alpn_protocol() == "http/1.1"
    tls.close()
    asking.close()


@pytest.mark.parametrize("name", ["site.example", "shop.example"])
def test_a_session_is_resumed(contexts: TlsContexts, name: str) -> None:
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # of 1.3 the tickets come with the first answer
    asking, tls = shaken(contexts.server, client, name)
    session = asking.session
    tls.close()
    asking.close()
    asking, tls = shaken(contexts.server, client, name, session)
    assert asking.session_reused
    tls.close()
    asking.close()


def test_a_name_that_is_not_ascii_prints_nothing(contexts: TlsContexts, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client_context().wrap_bio(down, up, server_hostname="abcdef.example")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        tls = TlsSocket(ours, contexts.server, up.read().replace(b"abcdef", b"\xff\xfecdef"))
        with pytest.raises(ssl.SSLError):
            tls.recv(1)
    assert not told
    assert sys.unraisablehook == told.append


def test_names_and_dates_are_known(contexts: TlsContexts, shop: Path) -> None:
    certificate = contexts.certificates[1]
    assert certificate.path == shop
    assert certificate.names == ("shop.example", "www.shop.example", "pay.site.example", "site.example")
    assert certificate.ends_s - certificate.begins_s == 30 * DAY_S
    assert contexts.warnings == ()


def test_without_names_the_common_name_counts(folder: Path, site: Path) -> None:
    old = make_certificate(folder, file="old.example")
    contexts = TlsContexts([site, old])
    assert contexts.certificates[1].names == ("old.example",)
    assert common_name(contexts, site, old, "old.example") == "old.example"


def test_a_key_before_its_certificate_and_comments_in_any_letters_are_fine(folder: Path, site: Path) -> None:
    pem = folder / "turned.pem"
    pem.write_text(
        "Schlüssel für die Seite\n" + site.with_suffix(".key").read_text() + site.with_suffix(".crt").read_text()
    )
    assert TlsContexts([pem]).certificates[0].names == ("site.example", "*.site.example")


def test_a_chain_is_sent_and_only_its_first_certificate_chosen_by(folder: Path) -> None:
    authority = make_certificate(folder, "authority.example", extension="keyUsage=keyCertSign")
    request, made, extensions = folder / "leaf.csr", folder / "leaf.crt", folder / "leaf.ext"
    extensions.write_text("subjectAltName=DNS:leaf.example\n")
    openssl("req", "-new", *EC, "-nodes", "-subj", "/CN=leaf", "-keyout", folder / "leaf.key", "-out", request)
    openssl(
        "x509", "-req", "-in", request, "-CA", authority.with_suffix(".crt"), "-CAkey", authority.with_suffix(".key"),
        "-CAcreateserial", "-days", "10", "-extfile", extensions, "-out", made,
    )  # fmt: skip
    pem = folder / "leaf.pem"
    parts = (made, authority.with_suffix(".crt"), folder / "leaf.key")
    pem.write_bytes(b"".join(part.read_bytes() for part in parts))
    contexts = TlsContexts([pem])
    assert contexts.certificates[0].names == ("leaf.example",)
    shown(contexts.server, client_context(authority), "leaf.example")


def test_it_works_in_a_process_that_gevent_has_patched(site: Path, shop: Path) -> None:
    script = """
        from gevent import monkey; monkey.patch_all()
        import ssl, sys, _socket
        from pathlib import Path
        from balancer.accept.tls import TlsContexts
        contexts = TlsContexts([Path(sys.argv[1]), Path(sys.argv[2])])
        ours, theirs = _socket.socketpair()
        ours.setblocking(False)
        tls = contexts.wrap(ours)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.load_verify_locations(cadata=Path(sys.argv[2]).read_text())
        asking = client.wrap_bio(down, up, server_hostname="shop.example")
        for _ in range(2):
            try: asking.do_handshake()
            except ssl.SSLWantReadError: pass
            theirs.send(up.read())
            try: tls.recv(1)
            except BlockingIOError: pass
            down.write(theirs.recv(65536))
        asking.write(b"ping")
        theirs.send(up.read())
        assert tls.recv(10) == b"ping"
        assert tls.send(b"pong") == 4
        down.write(theirs.recv(65536))
        print(asking.read(10).decode(), tls.version())
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), site, shop],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.stdout.split() == ["pong", "TLSv1.3"], answer.stderr
