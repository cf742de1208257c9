"""Tokens of AWS' identity and access management, for ElastiCache and MemoryDB: what ``"CREDENTIALS": "aws"`` asks for.

A token is a request for ``connect`` that AWS' keys have signed. It is good for 15 minutes, and a connection for 12
hours after it authenticated with one.
"""

import re
import time
import urllib.parse
from typing import Any

__all__ = ["Token", "token_for"]

_SECONDS = 900
_ELASTICACHE = re.compile(
    r"(?:(?:master|replica|clustercfg)\.)?(?P<name>[^.]+)\.(?:[^.]+\.)*(?P<region>[a-z]+\d+)\.cache\.amazonaws\.com(?:\.cn)?"
)
_SERVERLESS = re.compile(
    r"(?P<name>[^.]+)-[a-z0-9]{6}\.serverless\.(?P<region>[a-z0-9]+)\.cache\.amazonaws\.com(?:\.cn)?"
)
_MEMORYDB = re.compile(r"clustercfg\.(?P<name>[^.]+)\.[^.]+\.memorydb\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_DIRECTIONS = {"n": "north", "s": "south", "e": "east", "w": "west", "c": "central"}


class Token:
    """Makes tokens, for CREDENTIALS in OPTIONS where ``"aws"`` cannot tell the names from the host.

        "OPTIONS": {"CREDENTIALS": Token("app", "my-cache", "eu-central-1", serverless=True)}

    The keys are those that botocore finds: in the environment, a file, or the role of the machine or the task.

    Args:
        user: the ElastiCache or MemoryDB user, whose name and id are the same.
        name: that of the replication group, the serverless cache or the cluster.
        region: such as ``eu-central-1``.
        service: ``elasticache`` or ``memorydb``.
        serverless: whether it is a serverless cache.

    Raises:
        ImportError: botocore is not installed.
    """

    def __init__(
        self, user: str, name: str, region: str, *, service: str = "elasticache", serverless: bool = False
    ) -> None:
        try:
            import botocore.session
        except ImportError as error:
            raise ImportError("it needs botocore: pip install 'django-vcache[aws]'") from error
        self.user, self.name, self.region = user, name.lower(), region
        self.service, self.serverless = service, serverless
        self._session = botocore.session.get_session()

    def __call__(self) -> dict[str, Any]:
        """A user name, a token, and when it expires, in seconds since 1970."""
        from botocore.model import ServiceId
        from botocore.signers import RequestSigner

        keys = self._session.get_credentials()
        if keys is None:
            raise LookupError("botocore finds no keys of AWS")
        signer = RequestSigner(
            ServiceId(self.service),
            self.region,
            self.service,
            "v4",
            keys,
            self._session.get_component("event_emitter"),
        )
        query = {"Action": "connect", "User": self.user}
        if self.serverless:
            query["ResourceType"] = "ServerlessCache"
        url = f"https://{self.name}/?{urllib.parse.urlencode(query)}"
        request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
        expires_at = time.time() + _SECONDS
        signed = signer.generate_presigned_url(
            request, operation_name="connect", expires_in=_SECONDS, region_name=self.region
        )
        return {"username": self.user, "password": signed.removeprefix("https://"), "expires_at": expires_at}


def token_for(host: str, user: str) -> Token:
    """The tokens for a host of ElastiCache or MemoryDB, whose name and region it tells.

    Args:
        host: that in LOCATION.
        user: the user name.

    Raises:
        ValueError: the host tells no name, or there is no user.
        ImportError: botocore is not installed.
    """
    if not user:
        raise ValueError("it needs a user: write USERNAME, or put the user into the URL")
    if found := _SERVERLESS.fullmatch(host):
        return Token(user, found["name"], _region(found["region"]), serverless=True)
    if found := _MEMORYDB.fullmatch(host):
        return Token(user, found["name"], found["region"], service="memorydb")
    if found := _ELASTICACHE.fullmatch(host):
        return Token(user, found["name"], _region(found["region"]))
    raise ValueError(f"{host!r} is no host of ElastiCache or MemoryDB: make a django_vcache.aws.Token with their names")


def _region(short: str) -> str:
    """``use1`` in a host is ``us-east-1``."""
    found = re.fullmatch(r"([a-z]{2})(gov|iso)?([nsewc]{1,2})(\d)", short)
    if found is None:
        raise ValueError(f"the region {short!r} in the host is not known: make a django_vcache.aws.Token with its name")
    area, part, direction, number = found.groups()
    words = [area, part, "".join(_DIRECTIONS[letter] for letter in direction), number]
    return "-".join(filter(None, words))
