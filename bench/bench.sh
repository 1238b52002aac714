#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the benchmark programs, makes the sets, runs everything side by side. Called by make bench and make bench-full.
# usage: bench.sh BUILD-DIRECTORY quick|full        DATA=DIR keeps the sets elsewhere than in BUILD-DIRECTORY/bench/data
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/contrib/lib.sh"
build=$1
case "$2" in
	quick) sets="c20-512 c100-128 fashion" sizes="c10-128 c100-128" rounds=3 ;;
	full) sets="c20-512 c100-128 fashion c100-768 c40-1536 glove c500-128" sizes="c10-128 c100-128 c1000-128 c100-768" rounds=5 ;;
	*) die "usage: bench.sh BUILD-DIRECTORY quick|full" ;;
esac

say "what is missing"
install_missing g++ libhnswlib-dev dataset-fashion-mnist python3 python3-numpy python3-msgpack gnuplot-nox
# It may have come with a newer node than Debian's.
command -v npm >/dev/null || install_missing npm

say "programs"
libraries=
for floor in index codec filter graph store dist base; do libraries="$libraries $build/libvf_$floor.a"; done
mkdir -p "$build/bench"
flags="-O2 -std=gnu11 -D_GNU_SOURCE -I$top/include -pthread"
links="-lmsgpackc -ljansson -linih -lroaring -lxxhash -llmdb -lm"
for program in engine client; do
	# shellcheck disable=SC2086
	cc $flags -o "$build/bench/$program" "$top/bench/$program.c" $libraries $links
done
cc -O2 -std=gnu11 -o "$build/bench/peer_lmdb" "$top/bench/peer_lmdb.c" -llmdb
cc -O2 -std=gnu11 -pthread -o "$build/bench/writer" "$top/bench/writer.c"
c++ -O3 -march=native -w -o "$build/bench/peer_hnswlib" "$top/bench/peer_hnswlib.cc" -lpthread

say "usearch"
command -v node >/dev/null || install_missing nodejs
mkdir -p "$build/bench/npm"
(cd "$build/bench/npm" && npm install --silent --no-fund --no-audit usearch@2 >/dev/null)

# Debian's numpy, whatever python3 comes first in the PATH.
run() {
	script=$1
	shift
	/usr/bin/python3 "$top/bench/$script" --out "$build/bench/out" --programs "$build/bench" --vecfs "$build/vecfs" --rounds $rounds "$@"
}
data=${DATA:-$build/bench/data}
# shellcheck disable=SC2086
{
	say "side by side"
	run run.py --data "$data" --usearch "$build/bench/npm/node_modules" $sets
	say "writing, beside LMDB alone"
	run ingest.py 128:100000 512:40000 768:40000
	say "what grows"
	run scale.py --data "$data" $sizes
	say "asking while others are linked"
	run busy.py 128:50000:50000 512:20000:10000
}
