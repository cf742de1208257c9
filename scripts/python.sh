#!/bin/sh
# Prints the path of the newest usable CPython from 3.11 to 3.14, or of the one asked for (`python.sh 3.11`): on PATH first, then among pyenv's versions.
# A name on PATH may be a shim whose version is not installed, so each candidate is run before it is believed.
set -u

case "${1:-newest}" in
    newest) order="3.14 3.13 3.12 3.11" ;;
    3.1[1-4]) order=$1 ;;
    *) echo "usage: $0 newest|3.11|3.12|3.13|3.14" >&2; exit 2 ;;
esac

usable() {
    "$1" -c "import sys, venv, ensurepip; sys.exit(sys.implementation.name != 'cpython' or '%d.%d' % sys.version_info[:2] != '$2')" \
        >/dev/null 2>&1
}

for version in $order; do
    for candidate in "python$version" python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        if usable "$path" "$version"; then
            # A shim answers by way of the current folder's settings; what it stands for does not.
            "$path" -c 'import sys; print(sys.executable)'
            exit 0
        fi
    done
done
exit 1
