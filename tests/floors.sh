#!/bin/sh
# SPDX-License-Identifier: MIT
# The house stands: a folder includes only what stands below it, each foreign header has one owner, every exported
# symbol has our prefix. The table below is the truth that doc/ARCHITECTURE.md describes.
set -u
cd "${SRCDIR:-.}" || exit 99

# folder floor foreign-headers-it-may-include (regular expression, or -)
floors='
base 0 -
dist 1 immintrin.h|arm_neon.h|cpuid.h
store 1 lmdb.h
graph 2 immintrin.h|arm_neon.h
filter 2 roaring/roaring.h|roaring.h|xxhash.h
codec 3 msgpack.h|msgpack/.*|jansson.h|ini.h
index 4 roaring/roaring.h|roaring.h|xxhash.h
catalog 5 xxhash.h
face 6 fuse_lowlevel.h|fuse.h|fuse_opt.h|fuse_kernel.h
cmd 7 getopt.h
'
foreign='lmdb.h|fuse.*\.h|msgpack.*|jansson.h|ini.h|roaring.*|xxhash.h|immintrin.h|arm_neon.h'

# header -> folder that implements it
owner() {
	case $1 in
		arena|clock|error|heap|limits|log|name|prefetch|scramble|span|spool|spread|thread|value) echo base ;;
		dist) echo dist ;;
		store) echo store ;;
		graph) echo graph ;;
		filter) echo filter ;;
		format|config|record|ingest|request|question) echo codec ;;
		index) echo index ;;
		catalog) echo catalog ;;
		face) echo face ;;
		*) echo unknown ;;
	esac
}
floor_of() { echo "$floors" | awk -v f="$1" '$1 == f { print $2 }'; }
may_of() { echo "$floors" | awk -v f="$1" '$1 == f { print $3 }'; }

n=0
verdict() { # FINDINGS-FILE SENTENCE
	n=$((n + 1))
	if [ -s "$1" ]; then
		sed 's/^/# /' "$1"
		echo "not ok $n - $2"
	else
		echo "ok $n - $2"
	fi
}
found=$(mktemp)
trap 'rm -f "$found"' EXIT

for folder in $(echo "$floors" | awk 'NF { print $1 }'); do
	: >"$found"
	mine=$(floor_of "$folder")
	grep -Hn '#include "vecfs/' src/"$folder"/*.[ch] 2>/dev/null | while IFS= read -r line; do
		header=$(echo "$line" | sed 's|.*"vecfs/\(.*\)\.h".*|\1|')
		theirs=$(owner "$header")
		[ "$theirs" = "$folder" ] && continue
		floor=$(floor_of "$theirs")
		if [ -z "$floor" ] || [ "$floor" -ge "$mine" ]; then echo "$line (floor $folder is $mine, $theirs is ${floor:-unknown})"; fi
	done >"$found"
	verdict "$found" "$folder includes only floors below it"

	may=$(may_of "$folder")
	grep -HnE "#include <($foreign)>" src/"$folder"/*.[ch] 2>/dev/null | grep -vE "#include <($may)>" >"$found"
	verdict "$found" "$folder includes no foreign header of another floor"
done

: >"$found"
for header in include/vecfs/*.h; do
	name=$(basename "$header" .h)
	[ "$(owner "$name")" != unknown ] || echo "$header belongs to no floor"
	grep -HnE "#include <($foreign)>" "$header"
	mine=$(floor_of "$(owner "$name")")
	grep -Hn '#include "vecfs/' "$header" | while IFS= read -r line; do
		floor=$(floor_of "$(owner "$(echo "$line" | sed 's|.*"vecfs/\(.*\)\.h".*|\1|')")")
		[ "${floor:-99}" -le "${mine:-0}" ] || echo "$line looks upwards"
	done
done >"$found"
verdict "$found" "public headers look downwards and include no foreign header"

: >"$found"
for library in "${BUILDDIR:-.}"/libvf_*.a; do
	nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 { print $3 }' | grep -vE '^(vf_|__|_)' | sed "s|^|$(basename "$library"): |"
done >"$found"
verdict "$found" "every exported symbol begins with vf_"

: >"$found"
find src include tests bench -name '*.[ch]' | while IFS= read -r file; do
	head -n 1 "$file" | grep -q 'SPDX-License-Identifier: MIT' || echo "$file"
done >"$found"
verdict "$found" "every source begins with its licence"

echo "1..$n"
