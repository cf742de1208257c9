"""Settings of TLS that are wrong: refused when the cache is made, with what to write."""

from __future__ import annotations

from typing import Any

import pytest
from support.caches import make_cache

from django_vcache.exceptions import ConfigurationError

URL = "rediss://:s3cr3t@localhost:6379/0"


def refused(location: str, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make_cache(location, **options)
    message = str(caught.value)
    assert "s3cr3t" not in message
    return message


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ssl_cert_reqs": "maybe"}, "required, optional or none"),
        ({"ssl_check_hostname": "perhaps"}, "true or false"),
        ({"ssl_check_hostname": 7}, "must be text, a path, True or False, not int"),
        ({"ssl_min_version": "SSLv3"}, "TLSv1_2 or TLSv1_3"),
        ({"ssl_keyfile": "k.pem"}, "without ssl_certfile"),
        ({"ssl_password": "s3cr3t"}, "openssl pkey"),
        ({"ssl_ciphers": "ALL"}, "leave it out"),
        ({"ssl_ca_cert": "ca.pem"}, "ssl_ca_certs"),
        ({"SSL_CA_CERTS": "a", "ssl_ca_certs": "b"}, "twice"),
        ({"ssl": True}, "rediss://"),
        ({"CONNECTION_POOL_KWARGS": {"max_connections": 50}}, "Remove it: a process has one connection"),
        ({"CONNECTION_POOL_KWARGS": {"nonsense": 50}}, "only credential_provider and the settings of TLS"),
        ({"CONNECTION_POOL_KWARGS": "ssl"}, "must be a dict, not str"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_an_option_that_is_wrong_is_refused(options: dict[str, Any], reason: str) -> None:
    assert reason in refused(URL, **options)


def test_settings_of_tls_without_tls_are_refused() -> None:
    assert "rediss://" in refused("redis://localhost", ssl_ca_certs="ca.pem")
    assert "rediss://" in refused("unix:///v.sock", ssl_cert_reqs="none")
    assert "rediss://" in refused("redis://localhost?ssl_ca_certs=ca.pem")


def test_options_of_a_pool_that_say_nothing_are_taken() -> None:
    for nothing in ({}, None, {"ssl_ca_certs": None}):
        make_cache("redis://localhost", CONNECTION_POOL_KWARGS=nothing)


def test_settings_beside_options_are_moved() -> None:
    from django_vcache import ValkeyCache

    with pytest.raises(ConfigurationError, match="move it into OPTIONS"):
        ValkeyCache(URL, {"ssl_ca_certs": "ca.pem"})
