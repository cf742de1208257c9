"""Which certificates are taken, and what is said of those that are not."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from support.caches import make_cache
from support.certificates import authority
from support.load import works_again
from support.programs import run_program
from support.server import ValkeyServer, wait_until

from django_vcache.exceptions import ConnectionError


def works(cache: Any) -> bool:
    cache.set("k", 1)
    return cache.get("k") == 1


def refusal(location: str, **options: Any) -> str:
    """What is said of a server that cannot be connected to."""
    cache = make_cache(location, **options)
    with pytest.raises(ConnectionError) as caught:
        cache.get("k")
    return str(caught.value)


def bare(server: ValkeyServer, host: str = "127.0.0.1") -> str:
    """Its URL without settings of TLS."""
    return f"rediss://{host}:{server.port}/0"


CA = authority().certificate


@pytest.mark.parametrize(
    "options",
    [
        {"ssl_ca_certs": str(CA)},
        {"SSL_CA_CERTS": CA},
        {"CONNECTION_POOL_KWARGS": {"ssl_ca_certs": str(CA)}},
        {"CONNECTION_POOL_KWARGS": {"SSL_CA_CERTS": str(CA), "ssl_cert_reqs": ssl.CERT_REQUIRED}},
        {"ssl_ca_data": CA.read_text()},
        {"ssl_ca_certs": str(CA), "ssl_cert_reqs": "required", "ssl_check_hostname": True},
        {"ssl_ca_certs": str(CA), "ssl_min_version": ssl.TLSVersion.TLSv1_3},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_certificate_of_a_ca_that_is_given_is_taken(server: ValkeyServer, drive: Any, options: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert works(drive(make_cache(bare(server, host), **options)))


def test_settings_may_stand_in_the_url(server: ValkeyServer, drive: Any) -> None:
    for scheme in ("rediss", "valkeys"):
        url = f"{scheme}://127.0.0.1:{server.port}/0?ssl_ca_certs={CA}&ssl_cert_reqs=required"
        assert works(drive(make_cache(url)))


def test_a_folder_of_cas_is_read(server: ValkeyServer, tmp_path: Path) -> None:
    (tmp_path / "0a1b2c3d.0").symlink_to(CA)
    assert works(make_cache(bare(server), ssl_ca_path=str(tmp_path)))


def test_the_systems_certificates_are_those_that_the_environment_names(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CA))
    program = """
cache.set("k", 1)
report(cache.get("k"))
"""
    caches = {"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": bare(server)}}
    assert run_program(program, caches) == 1


def test_a_ca_that_is_unknown_is_refused(server: ValkeyServer) -> None:
    for options in ({}, {"ssl_ca_certs": str(authority("unknown").certificate)}):
        message = refusal(bare(server), **options)
        assert "of a CA that is not trusted: give the CA's certificate as ssl_ca_certs" in message


def test_a_certificate_for_another_host_is_refused_unless_any_is_taken() -> None:
    with ValkeyServer(tls=authority().issue("cache.example")) as server:
        message = refusal(bare(server), ssl_ca_certs=str(CA))
        assert "not for '127.0.0.1'" in message
        assert "cache.example" in message
        assert "ssl_check_hostname" in message
        assert works(make_cache(bare(server), ssl_ca_certs=str(CA), ssl_check_hostname=False))
        unknown = str(authority("unknown").certificate)
        assert "not trusted" in refusal(bare(server), ssl_ca_certs=unknown, ssl_check_hostname=False)


def test_a_certificate_that_has_expired_is_refused() -> None:
    with ValkeyServer(tls=authority().issue("127.0.0.1", ended=True)) as server:
        assert "has expired" in refusal(bare(server), ssl_ca_certs=str(CA))


@pytest.mark.parametrize(
    "options",
    [{"ssl_cert_reqs": "none"}, {"SSL_CERT_REQS": None}, {"CONNECTION_POOL_KWARGS": {"ssl_cert_reqs": ssl.CERT_NONE}}],
    ids=["text", "None", "pool"],
)
def test_any_certificate_is_taken_if_told_so_which_is_logged_once(
    drive: Any, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority("unknown").issue("cache.example", ended=True)
    with ValkeyServer(tls=pair) as server, caplog.at_level(logging.WARNING, "django_vcache"):
        for _ in range(3):
            assert works(drive(make_cache(bare(server), **options)))
    assert sum("any certificate is taken" in record.getMessage() for record in caplog.records) == 1


def test_the_fragment_insecure_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with ValkeyServer(tls=authority("unknown").issue("cache.example")) as server:
        assert works(make_cache(f"{bare(server)}#insecure"))
    assert "any certificate is taken" in caplog.text


def test_a_server_that_wants_a_clients_certificate_gets_it(drive: Any) -> None:
    client = authority("clients").issue("app@example.com")
    with ValkeyServer(tls=True, client_ca=authority("clients").certificate) as server:
        given = {"ssl_ca_certs": str(CA), "ssl_certfile": client.certificate, "ssl_keyfile": client.key}
        assert works(drive(make_cache(bare(server), **given)))
        message = refusal(bare(server), ssl_ca_certs=str(CA))
        assert "ssl_certfile" in message
        wrong = authority("unknown").issue("app@example.com")
        message = refusal(bare(server), ssl_ca_certs=str(CA), ssl_certfile=wrong.certificate, ssl_keyfile=wrong.key)
        assert "refused the client's certificate" in message


def test_files_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_text(authority("unknown").certificate.read_text())
    with ValkeyServer(tls=True) as server:
        cache = make_cache(bare(server), ssl_ca_certs=trusted)
        with pytest.raises(ConnectionError, match="not trusted"):
            cache.get("k")
        trusted.write_text(CA.read_text() + authority("unknown").certificate.read_text())
        wait_until(lambda: works_again(cache), what="the new certificates are read")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ssl_ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs '/nowhere/ca.pem' cannot be read"),
        ({"ssl_ca_data": "no certificate"}, "ssl_ca_data has no certificate in PEM"),
        ({"ssl_ca_path": "/nowhere"}, "ssl_ca_path '/nowhere' has no certificate"),
        ({"ssl_certfile": "/nowhere/app.pem"}, "ssl_certfile '/nowhere/app.pem' cannot be read"),
        ({"ssl_certfile": str(CA)}, "has no private key in PEM"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_file_that_is_wrong_is_named(server: ValkeyServer, options: Any, reason: str) -> None:
    options.setdefault("ssl_ca_certs", str(CA)) if "ssl_certfile" in options else None
    assert reason in refusal(bare(server), **options)


def test_a_key_that_is_encrypted_says_what_to_do(server: ValkeyServer, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    certificate = authority().issue("app").certificate
    message = refusal(bare(server), ssl_ca_certs=str(CA), ssl_certfile=certificate, ssl_keyfile=key)
    assert "openssl pkey" in message


def test_the_other_protocol_on_the_port_is_told(server: ValkeyServer) -> None:
    assert "rediss://" in refusal(f"redis://127.0.0.1:{server.port}/0")
    with ValkeyServer(tls=False) as plain:
        message = refusal(bare(plain), ssl_ca_certs=str(CA))
        assert "Does it speak TLS on this port?" in message
