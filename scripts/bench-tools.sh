#!/bin/sh
# Installs what `make bench-web` loads with and compares with, where it is missing: wrk and nginx by apt-get if root runs
# this, oha by cargo into a folder. What cannot be installed is named, and is no failure: its rows say so, too.
#
#     sh scripts/bench-tools.sh FOLDER
set -u
folder=$1

has() {
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]
}

missing=
has wrk || missing="$missing wrk"
has nginx || missing="$missing nginx"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        echo "==> Installing$missing"
        # Debian starts nginx as it installs it, unless this program says no.
        policy=/usr/sbin/policy-rc.d
        made=
        if [ ! -e "$policy" ]; then
            made=1
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
        fi
        # shellcheck disable=SC2086
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; } ||
            echo "apt-get could not install$missing: their rows will say so"
        [ -z "$made" ] || rm -f "$policy"
    else
        echo "not installed:$missing. Their rows will say so; on Debian: apt-get install$missing"
    fi
fi

if ! has oha && [ ! -x "$folder/bin/oha" ]; then
    if has cargo; then
        echo "==> Building oha into $folder (minutes the first time)"
        cargo install oha --quiet --locked --version "~1.16" --root "$folder" ||
            echo "oha could not be built: rows at a fixed rate will say so"
    else
        echo "not installed: oha, which cargo builds. Rows at a fixed rate will say so"
    fi
fi
