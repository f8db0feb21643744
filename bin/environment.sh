#!/bin/sh
# Find a Python that is new enough and let environment.py make a virtual environment with it.
#
#   sh environment.sh [--tests] PLACE...
#
# prints the place where the environment is; everything else goes to standard error.
set -eu

# A pyenv shim may be on PATH and fail when run, so each candidate has to prove itself.
probe='import sys; print("Python %d.%d.%d" % sys.version_info[:3]); import ensurepip, venv'
python=
found=
incomplete=

consider() {
    path=$(command -v "$1") || return 0
    if version=$("$path" -E -c "$probe" 2>/dev/null </dev/null); then whole=yes; else whole=no; fi
    case $version in
        "Python 3.1"[1-9].* | "Python 3."[2-9][0-9].*)
            if [ $whole = yes ]; then python=$path; else incomplete="$version ($path)"; fi
            ;;
        "Python "*) found="${found:+$found, }$version ($path)" ;;
    esac
}

fail() {
    printf 'apikey: %s\n' "$1" >&2
    exit 1
}

if [ -n "${APIKEY_PYTHON:-}" ]; then
    consider "$APIKEY_PYTHON"
else
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        [ -n "$python" ] || consider "$name"
    done
fi

if [ -z "$python" ] && [ -n "$incomplete" ]; then
    fail "$incomplete cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"
elif [ -z "$python" ]; then
    fail "Python 3.11 or newer is needed; found ${found:-none${APIKEY_PYTHON:+ at $APIKEY_PYTHON}}."
fi

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
exec "$python" -I "$here/environment.py" "$@" </dev/null
