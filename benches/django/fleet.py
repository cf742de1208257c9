"""Servers over TLS and in a cluster: how they are started, and how each client is opened on them.

Over TLS the server is Debian's ``redis-server``, since Valkey's wheel has no TLS. Its certificate is made for the run,
and every client verifies it. The cluster is three nodes of Valkey. ``BENCH_CA`` names the file with the certificate.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import server
from sessions import OURS_BACKEND, DjangoCaches, Glide, Session

TLS, CLUSTER = "tls", "cluster"
NODES = 3
SLOTS = 16384
WITHIN = 30.0
"""Seconds for the nodes of a cluster to find each other."""

# Starting servers.


class MissingError(Exception):
    """What a kind of server needs is not on this machine."""


@contextmanager
def with_tls(folder: Path) -> Iterator[tuple[int, int]]:
    """A server with TLS on the first port and without it on the second; its certificate is in ``folder``."""
    binary = shutil.which("redis-server")
    if binary is None or shutil.which("openssl") is None:
        raise MissingError("redis-server and openssl are not installed")
    certificate, key = certificate_of(folder), folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    make += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    secure = server.free_port()
    words = ["--tls-port", str(secure), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    words += ["--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]
    with server.valkey(binary, *words) as plain:
        yield secure, plain


def certificate_of(folder: Path) -> Path:
    return folder / "certificate.pem"


@contextmanager
def cluster(binary: str, folder: Path) -> Iterator[int]:
    """A cluster of three nodes; the port of one."""
    with ExitStack() as stack:
        ports = []
        for number in range(NODES):
            home = folder / f"node-{number}"
            home.mkdir()
            words = ["--cluster-enabled", "yes", "--cluster-port", str(server.free_port()), "--dir", str(home)]
            ports.append(stack.enter_context(server.valkey(binary, *words)))
        for number, port in enumerate(ports):
            first, last = number * SLOTS // NODES, (number + 1) * SLOTS // NODES - 1
            server.command(port, ("CLUSTER", "ADDSLOTSRANGE", str(first), str(last)))
            bus = server.command(port, ("CONFIG", "GET", "cluster-port"))[0].splitlines()[1]
            server.command(ports[0], ("CLUSTER", "MEET", "127.0.0.1", str(port), bus))
        until = time.monotonic() + WITHIN
        while not all(_knows_all(port) for port in ports):
            if time.monotonic() > until:
                raise MissingError("the nodes of the cluster do not find each other")
            time.sleep(0.05)
        yield ports[0]


def _knows_all(port: int) -> bool:
    state, nodes = server.command(port, ("CLUSTER", "INFO"), ("CLUSTER", "NODES"))
    return "cluster_state:ok" in state and len(nodes.splitlines()) == NODES


# Opening clients.


def ours(over: str, port: int) -> Session:
    if over == TLS:
        return _caches(OURS_BACKEND, f"rediss://127.0.0.1:{port}/0", ssl_ca_certs=_certificate())
    return _caches(OURS_BACKEND, f"redis://127.0.0.1:{port}/0")


def baseline(over: str, port: int) -> Session:
    """django-vcache 3.2."""
    backend = "django_vcache.backend.ValkeyCache"
    if over == TLS:
        return _caches(backend, f"rediss://127.0.0.1:{port}/0", ssl_ca_certs=_certificate())
    return _caches(backend, f"redis://127.0.0.1:{port}", CLUSTER_MODE=True)


def django_redis(port: int) -> Session:
    location = f"rediss://127.0.0.1:{port}/0?max_connections=1000&ssl_ca_certs={_certificate()}"
    return _caches("django_redis.cache.RedisCache", location)


def django_valkey(port: int) -> Session:
    backend = "django_valkey.cluster_cache.cache.ClusterValkeyCache"
    return _caches(backend, f"valkey://127.0.0.1:{port}/0")


def _caches(backend: str, location: str, **options: Any) -> Session:
    setting: dict[str, Any] = {"BACKEND": backend, "LOCATION": location}
    return DjangoCaches({"default": setting | ({"OPTIONS": options} if options else {})}, "default")


class WideGlide(Glide):
    """valkey-glide over TLS or on a cluster."""

    def __init__(self, over: str, port: int) -> None:
        super().__init__(port)
        self.over = over
        self.kind = "GlideClusterClient" if over == CLUSTER else "GlideClient"

    def _configuration(self, package: Any) -> Any:
        address = package.NodeAddress("127.0.0.1", self.port)
        if self.over == CLUSTER:
            return package.GlideClusterClientConfiguration([address])
        from glide_shared.config import AdvancedGlideClientConfiguration, TlsAdvancedConfiguration

        tls = TlsAdvancedConfiguration(root_pem_cacerts=Path(_certificate()).read_bytes())
        advanced = AdvancedGlideClientConfiguration(tls_config=tls)
        return package.GlideClientConfiguration([address], use_tls=True, advanced_config=advanced)


def _certificate() -> str:
    return os.environ["BENCH_CA"]
