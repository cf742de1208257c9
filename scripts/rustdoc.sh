#!/bin/sh
# The rustdoc of `make lint`: `cargo test --doc` calls it, and it writes the pages in place of running their examples.
# They are made of what the tests are made of. `cargo doc` would have each dependency checked anew, for a minute.
set -eu
option=
for argument; do
    shift
    case $option$argument in
    --test) set -- "$@" -D warnings -o "${CARGO_TARGET_DIR:-target}/doc" ;;
    --test-args=* | --test-run-directory=*) ;;
    --extern | --test-args | --test-run-directory)
        option="$argument "
        continue
        ;;
    # What only the tests depend on is not there for who reads the pages.
    "--extern vcache="* | "--extern serde_json="*) ;;
    "--extern "*) set -- "$@" --extern "$argument" ;;
    "--test-args "* | "--test-run-directory "*) ;;
    *) set -- "$@" "$argument" ;;
    esac
    option=
done
exec rustdoc "$@"
