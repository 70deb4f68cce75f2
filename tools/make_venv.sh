#!/bin/sh
# Makes a virtual environment with the first Python of 3.11 or newer that is found:
#   tools/make_venv.sh FOLDER
# $PYTHON names another one. As root on Debian it installs python3-venv when that is missing.
set -eu

folder=$1
wanted='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        # A version manager's shim may be there and refuse to run, so each one is tried.
        if "$candidate" -c "$wanted" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python of 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python" >&2
    exit 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -q update && apt-get -q install -y python3-venv
    else
        echo "$python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "making $folder with $("$python" --version) ($(command -v "$python"))"
"$python" -m venv --clear "$folder"
