"""Sentinels, and a primary with a replica that they watch: real servers, whose failovers take a second or two."""

from __future__ import annotations

from types import TracebackType

from support import certificates
from support.resp import ServerError
from support.server import ValkeyServer, wait_until

SERVICE = "mymaster"
DOWN_AFTER = 500
"""Milliseconds without an answer after which a server counts as down."""


class Sentinel(ValkeyServer):
    """A server in Sentinel's mode that watches a primary on this machine."""

    def __init__(self, primary: ValkeyServer, quorum: int, **options: object) -> None:
        self._primary, self._quorum = primary, quorum
        super().__init__(**options)  # type: ignore[arg-type]

    def primary_port(self) -> int:
        """Where it says that the primary is."""
        found = self.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        assert isinstance(found, list)
        assert isinstance(found[1], bytes)
        return int(found[1])

    def state(self, kind: str = "MASTER") -> dict[str, str]:
        """What it knows of the primary."""
        return self._table(self.execute("SENTINEL", kind, SERVICE))

    def replicas(self) -> list[dict[str, str]]:
        found = self.execute("SENTINEL", "REPLICAS", SERVICE)
        assert isinstance(found, list)
        return [self._table(each) for each in found]

    @staticmethod
    def _table(found: object) -> dict[str, str]:
        assert isinstance(found, list)
        words = [word.decode() for word in found]
        return dict(zip(words[::2], words[1::2], strict=True))

    def _arguments(self) -> list[str]:
        return ["--sentinel"]

    def _config_lines(self) -> list[str]:
        lines = [line for line in super()._config_lines() if not line.startswith(("save", "appendonly"))]
        lines += [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} {self._quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 2000",
        ]
        if self._primary.password is not None:
            lines.append(f"sentinel auth-pass {SERVICE} {self._primary.password}")
        return lines


def _is_replica(server: ValkeyServer) -> bool:
    try:
        return server.info("replication")["role"] == "slave"
    except OSError:
        # Sentinel closes all connections of a server that it makes a replica.
        return False


class Watched:
    """A primary, its replica, and three sentinels that have found each other."""

    def __init__(self, *, sentinels: dict[str, object] | None = None, **options: object) -> None:
        self._all: list[ValkeyServer] = []
        try:
            self.first = self._start(ValkeyServer(**options))  # type: ignore[arg-type]
            replicaof = {"replicaof": f"127.0.0.1 {self.first.port}"}
            if self.first.password is not None:
                replicaof["masterauth"] = self.first.password
            self.second = self._start(ValkeyServer(**options, **replicaof))  # type: ignore[arg-type]
            wait_until(lambda: self.second.info("replication")["master_link_status"] == "up", what="a replica in step")
            self.sentinels = [Sentinel(self.first, 2, **(sentinels or {})) for _ in range(3)]
            self._all += self.sentinels
            wait_until(self._is_complete, what="sentinels that know each other")
        except BaseException:
            self.stop()
            raise

    def _start(self, server: ValkeyServer) -> ValkeyServer:
        self._all.append(server)
        return server

    def _is_complete(self) -> bool:
        return all(
            each.state().get("num-other-sentinels") == "2" and len(each.replicas()) == 1 for each in self.sentinels
        )

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def url(self, scheme: str = "redis+sentinel", userinfo: str = "", query: str = "") -> str:
        return self.url_of(self.hosts, scheme, userinfo, query)

    def url_of(
        self, hosts: str, scheme: str = "redis+sentinel", userinfo: str = "", query: str = "", service: str = SERVICE
    ) -> str:
        """The URL with these sentinels; of its form with TLS, if they have it."""
        if self.first.tls:
            store, plus, _ = scheme.rpartition("+")
            scheme = f"{store}s+sentinel" if plus else "sentinels"
            query += f"{'&' if query else '?'}ssl_ca_certs={certificates.authority().certificate}"
        return f"{scheme}://{userinfo}{hosts}/{service}/0{query}"

    @property
    def primary(self) -> ValkeyServer:
        """That which the sentinels name."""
        port = self.sentinels[0].primary_port()
        return self.first if self.first.port == port else self.second

    @property
    def replica(self) -> ValkeyServer:
        return self.second if self.primary is self.first else self.first

    def fail_over(self) -> None:
        """Has the replica become the primary, and waits for that. The old one stays up, as a replica; until it is one,
        it goes on taking writes, which are lost."""
        new, old = self.replica, self.primary
        wait_until(self._begins_to_fail_over, what="a failover that begins")
        self.wait_for(new)
        wait_until(lambda: _is_replica(old), what="the old primary as a replica")

    def _begins_to_fail_over(self) -> bool:
        try:
            return self.sentinels[0].execute("SENTINEL", "FAILOVER", SERVICE) == "OK"
        except ServerError as error:
            # The one before is not quite over.
            if not str(error).startswith(("NOGOODSLAVE", "INPROG")):
                raise
            return False

    def wait_for(self, new: ValkeyServer) -> None:
        """Until all sentinels that live name this one."""
        living = [each for each in self.sentinels if each.is_running]
        wait_until(lambda: all(each.primary_port() == new.port for each in living), what="the new primary")

    def stop(self) -> None:
        for each in reversed(self._all):
            each.stop()

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
