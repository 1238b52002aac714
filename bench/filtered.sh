#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the peers of bench/filtered.py and runs it. Called by make bench-filtered.
# usage: filtered.sh BUILD-DIRECTORY [OPTION-OF-filtered.py...]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/contrib/lib.sh"
build=$1
shift

say "what is missing"
command -v npm >/dev/null || install_missing npm
install_missing g++ python3 python3-numpy python3-msgpack

say "peers"
mkdir -p "$build/bench"
# The filter functor came after Debian's hnswlib: its headers are taken from a package that has newer ones.
fetch() {
	mkdir -p "$build/bench/$1"
	(cd "$build/bench/$1" && npm pack --silent "$1@$2" >/dev/null && tar xzf ./*.tgz)
}
case $(uname -m) in
	x86_64) sqlite_vec=sqlite-vec-linux-x64 ;;
	aarch64) sqlite_vec=sqlite-vec-linux-arm64 ;;
	*) die "there is no sqlite-vec for $(uname -m)" ;;
esac
fetch hnswlib-node 3.0.0
fetch $sqlite_vec 0.1.9
c++ -O3 -march=native -w -I"$build/bench/hnswlib-node/package/src/hnswlib" -o "$build/bench/peer_filtered" "$top/bench/peer_filtered.cc" -lpthread

say "side by side"
# Debian's Python, whatever comes first in the PATH.
exec /usr/bin/python3 "$top/bench/filtered.py" --out "$build/bench/out" --programs "$build/bench" --vecfs "$build/vecfs" \
	--sqlite-vec "$build/bench/$sqlite_vec/package" "$@"
