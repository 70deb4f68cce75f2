#!/bin/sh
# Programs that tests run: zstd (rescue.py's last resort), strace (the order of syncs), a C compiler
# (the kernel); and Python.h for the Python that is named:
#   tools/need_programs.sh PYTHON
# As root on Debian this installs what is missing.
set -eu

missing=""
for program in zstd strace; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
compiler=${CC:-cc}
command -v "${compiler%% *}" >/dev/null || missing="$missing gcc libc6-dev"
header=$("$1" -c 'import sysconfig; print(sysconfig.get_paths()["include"] + "/Python.h")')
[ -e "$header" ] || missing="$missing python3-dev"
# Where root may install, also what runs the kernel's tests for AArch64; elsewhere they are skipped.
if [ "$(uname -m)" = x86_64 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    if ! command -v qemu-aarch64 >/dev/null || ! command -v aarch64-linux-gnu-gcc >/dev/null; then
        missing="$missing qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    fi
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # several names
    apt-get -q update && apt-get -q install -y $missing
else
    echo "the tests need these programs:$missing; on Debian: apt-get install$missing" >&2
    exit 1
fi
