#!/bin/sh
# Programs that tests run: zstd (rescue.py's last resort) and strace (the order of syncs). As root on
# Debian this installs what is missing.
set -eu

missing=""
for program in zstd strace; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # several names
    apt-get -q update && apt-get -q install -y $missing
else
    echo "the tests need these programs:$missing; on Debian: apt-get install$missing" >&2
    exit 1
fi
