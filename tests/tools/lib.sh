# SPDX-License-Identifier: MIT
# What the tables of tools share. One line of a table is one case: a tool, what it does, the command line, and what it prints.
#
#   does TOOL SENTENCE COMMAND [OUTPUT]        it succeeds, and prints OUTPUT when that is given
#   refuses TOOL SENTENCE WORDS COMMAND        it fails and says WORDS
#
# A case whose tool is missing is skipped by name. Commands see
#   $I   an index of three dimensions with the records k1 ... k5 and the question q.json      $V, $Q   its vectors/ and queries/
#   $F   plain copies of its vectors/         $B   a plain copy of the whole index         $T   a directory for anything else
#   new NAME   makes another index of three dimensions and prints its path
. "${SRCDIR:-.}/tests/mount/lib.sh"

has_tool() {
	case $1 in
		busybox:*) command -v busybox >/dev/null && busybox --list | grep -qx "${1#*:}" ;;
		*) command -v "$1" >/dev/null ;;
	esac
}

run_case() { timeout 60 bash -c 'set -o pipefail; cd "$T"; '"$1" 2>&1; }

does() {
	local tool=$1 sentence="$1 $2" out rc
	has_tool "$tool" || { n=$((n + 1)); echo "ok $n - $sentence # SKIP no $tool"; return; }
	out=$(run_case "$3")
	rc=$?
	if [ $rc -ne 0 ]; then flunk "$sentence" "$3" "failed ($rc):" "$out" "errors: $(tail -n 2 "$I/errors" 2>&1)"
	elif [ $# -gt 3 ] && [ "$out" != "$4" ]; then flunk "$sentence" "$3" "got:      $out" "expected: $4"
	else pass "$sentence"; fi
}

refuses() {
	local tool=$1 sentence="$1 $2" out rc
	has_tool "$tool" || { n=$((n + 1)); echo "ok $n - $sentence # SKIP no $tool"; return; }
	out=$(run_case "$4")
	rc=$?
	if [ $rc -eq 0 ] || [ $rc -ge 124 ]; then flunk "$sentence" "$4" "status $rc:" "$out"
	else case $out in
		*"$3"*) pass "$sentence" ;;
		*) flunk "$sentence" "$4" "got:      $out" "expected: $3" ;;
	esac; fi
}

new() { mkdir "$M/b/$1" && echo 'dimension = 3' >"$M/b/$1/config" && echo "$M/b/$1"; }
# vector KEY [INDEX]: the numbers of a record, read as JSON.
vector() { sed 's/.*"float32": \(\[[^]]*\]\).*/\1/' "${2:-$I}/vectors/$1.json"; }
# Bytes of a directory's files, in order, as one number.
sum() { (cd "$1" && find . -type f | sort | xargs cat | sha256sum | cut -c1-16); }

command -v vim >/dev/null || ! command -v vim.tiny >/dev/null || { vim() { vim.tiny "$@"; }; export -f vim; }
start
new_index
V=$I/vectors Q=$I/queries F=$dir/files B=$dir/backup T=$dir/t
mkdir "$F" "$T"
for k in 1 2 3 4 5; do record "$k,0,1" "{\"n\": $k}" >"$V/k$k.msgpack"; done
echo '{"queryVector": [5, 0, 1], "topK": 2}' >"$Q/q.json"
cp "$V"/* "$F/"
cp -a "$I" "$B"
record 7,7,7 '{"n": 7}' >"$dir/seven.json"
SEVEN=$dir/seven.json
export I V Q F B T S M SEVEN dir
export -f new vector sum record
