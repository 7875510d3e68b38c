"""Certificate files that can't be used, and what is said of them; and of those whose time isn't now."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.accept.tls import TlsContexts
from hitmesh.errors import ConfigError
from tests.balancer.certificates import client_context, make_certificate, openssl, shaken

DAY_S = 86400.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    return make_certificate(folder, "site.example")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Path:
    return make_certificate(folder, "shop.example")


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        TlsContexts([path])
    assert str(path) in str(error.value)
    return error.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.pem")


def test_a_folder_is_no_certificate(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no PEM\n", b"\x30\x82\x01\x0a\xff\xfe\x00"])
def test_a_file_that_is_not_pem_is_told_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.pem"
    path.write_bytes(content)
    assert refusal(path) == "this certificate can't be used: it has no certificate in PEM"


def test_a_certificate_without_its_key_is_told_so(site: Path) -> None:
    assert refusal(site.with_suffix(".crt")) == "this certificate can't be used: it has no private key in PEM"


def test_another_certificates_key_is_told_so(tmp_path: Path, site: Path, shop: Path) -> None:
    path = tmp_path / "mixed.pem"
    path.write_bytes(site.with_suffix(".crt").read_bytes() + shop.with_suffix(".key").read_bytes())
    assert "the private key is not the first certificate's" in refusal(path)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path, site: Path) -> None:
    secret = tmp_path / "encrypted.key"
    openssl("pkcs8", "-topk8", "-in", site.with_suffix(".key"), "-passout", "pass:secret", "-out", secret)
    path = tmp_path / "encrypted.pem"
    path.write_bytes(site.with_suffix(".crt").read_bytes() + secret.read_bytes())
    assert "its private key is encrypted" in refusal(path)


def test_a_broken_certificate_is_refused(tmp_path: Path, site: Path) -> None:
    path = tmp_path / "broken.pem"
    path.write_text(site.read_text().replace("MII", "MIA", 1))
    refusal(path)


def test_no_certificate_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no certificate"):
        TlsContexts([])


def test_a_certificate_that_no_client_would_take_is_refused(folder: Path) -> None:
    path = make_certificate(folder, "person.example", extension="extendedKeyUsage=clientAuth")
    assert "purpose" in refusal(path)


def test_an_expired_certificate_is_served_with_a_warning(folder: Path) -> None:
    path = make_certificate(folder, file="expired", days=-1)
    contexts = TlsContexts([path])
    assert [str(path) in text and "expired on" in text for text in contexts.warnings] == [True]
    for end in shaken(contexts.server, client_context(), "expired"):
        end.close()


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "isn't valid yet"), (0, ""), (22, ""), (24, "expires on"), (31, "expired on")]
)
def test_the_dates_are_warned_of(site: Path, days: int, said: str) -> None:
    begins_s = TlsContexts([site]).certificates[0].begins_s
    warned = TlsContexts([site], now_s=begins_s + days * DAY_S + 1).warnings
    assert [said in text for text in warned] == ([True] if said else [])
