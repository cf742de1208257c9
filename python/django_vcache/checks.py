"""System checks of caches, those with ``check --deploy``. The checks of limits are in ``admission/checks.py``.

``vcache.W007``  the certificate of an alias' server is not looked at (``--deploy``)
"""

from typing import Any

from django.core.cache import caches
from django.core.checks import CheckMessage, Warning, register

from .backend import ValkeyCache
from .exceptions import ConfigurationError
from .location import embedded_url
from .options import configured

__all__: list[str] = []


@register("vcache", deploy=True)
def check_certificates(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether certificates of servers are verified. Nothing is sent."""
    return [
        Warning(
            f"The cache alias {alias!r} takes any certificate: a machine between this one and its server can read and "
            "change what the cache holds.",
            hint="Give the CA's certificate as ssl_ca_certs, and drop ssl_cert_reqs=none.",
            id="vcache.W007",
        )
        for alias, config in configured()
        if embedded_url(config.get("LOCATION")) is None and _takes_any_certificate(alias)
    ]


def _takes_any_certificate(alias: str) -> bool:
    try:
        cache = caches[alias]
    # What is wrong with its settings, the cache tells when it is used.
    except (ConfigurationError, ImportError):
        return False
    return isinstance(cache, ValkeyCache) and cache._client.tls == "none"
