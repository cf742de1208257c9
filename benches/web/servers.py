"""The commands that start the web servers of the rows: each with one worker, and without logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rows import Row
from serving import ServingError

KEEP_ALIVE = "120"
"""Seconds for which an idle connection is kept. At a low rate, each of many connections is idle for long."""

PROTOCOLS = {"below": "django_vcache.uvicorn:HotProtocol"}

NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000000;
        keepalive_timeout {keep_alive};
        location / {{ return 204; }}
    }}
}}
"""


def command(row: Row, python: str, port: int, scratch: Path) -> list[str]:
    """What starts the server of a row.

    Args:
        row: the row.
        python: the interpreter of its environment.
        port: where it will listen.
        scratch: a folder for its files.

    Raises:
        ServingError: the server is not on this machine.
    """
    if row.server == "nginx":
        return _nginx(port, scratch)
    if row.server == "bolt":
        words = ["-m", "django", "runbolt", "--host", "127.0.0.1", "--port", str(port), "--processes", "1"]
        return [python, *words, "--no-admin", "--skip-checks"]
    application = "site_.bare" if row.handler == "bare" else "site_.wsgi" if row.handler == "wsgi" else "site_.asgi"
    if row.server == "uvicorn":
        words = ["-m", "uvicorn", f"{application}:application", "--host", "127.0.0.1", "--port", str(port)]
        words += ["--loop", "uvloop", "--http", PROTOCOLS.get(row.handler, "httptools")]
        words += ["--no-access-log", "--log-level", "warning", "--timeout-keep-alive", KEEP_ALIVE]
        return [python, *words]
    interface = "wsgi" if row.handler == "wsgi" else "asgi"
    words = ["-m", "granian", f"{application}:application", "--interface", interface, "--host", "127.0.0.1"]
    words += ["--port", str(port), "--workers", "1", "--loop", "uvloop", "--no-log"]
    return [python, *words]


def _nginx(port: int, scratch: Path) -> list[str]:
    # Debian has it where only root's PATH leads.
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServingError("nginx was not found; on Debian: apt-get install nginx")
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=scratch, port=port, keep_alive=KEEP_ALIVE)
    configuration = scratch / "nginx.conf"
    configuration.write_text(text)
    return [found, "-c", str(configuration), "-p", str(scratch), "-e", "stderr"]
