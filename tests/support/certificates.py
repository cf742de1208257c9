"""Certificates made at test time: a CA that servers are verified by, and one that is not trusted; for servers the right
name, the address, a wrong name, one that has expired; for clients. The files are PEM and go with the process.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import trustme

HOST = "127.0.0.1"


class Pair(NamedTuple):
    """A certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """A CA, and what it issues."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA(organization_name=f"vcache tests, {folder.name}")
        self._folder = folder
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.certificate)

    def issue(self, *names: str, ended: bool = False) -> Pair:
        """For these host names and addresses; one that is valid no more if it `ended`."""
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issued = self._ca.issue_cert(*names, not_after=yesterday if ended else None)
        self._count += 1
        pair = Pair(self._folder / f"{self._count}.pem", self._folder / f"{self._count}.key")
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(pair.certificate, append=number > 0)
        issued.private_key_pem.write_to_path(pair.key)
        return pair


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vcache-certificates-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def authority(name: str = "trusted") -> Authority:
    """The CA of this name."""
    return Authority(_folder() / name)


@functools.cache
def server_pair() -> Pair:
    """What a server of the tests shows, unless it is to show something else."""
    return authority().issue(HOST, "localhost")
