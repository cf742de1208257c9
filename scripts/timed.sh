#!/bin/sh
# Runs a command and tells how long it took: timed.sh NAME COMMAND...
set -eu
name=$1
shift
started=$(date +%s)
"$@"
echo "==> $name: $(($(date +%s) - started)) s"
