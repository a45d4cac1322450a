#!/bin/sh
# Checks the release as the one who gets it would: unpack, compare the sums, run it once.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -W ignore -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$here"
cd "$here/calc"
sha256sum -c SHA256SUMS
echo "2 * pi" | python3 calc.pyz
echo "a real workspace would upload $1 here"
