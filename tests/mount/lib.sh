# SPDX-License-Identifier: MIT
# What the shell suites share: a store and a mount of their own, TAP lines, and a cleanup that always runs.
# Each check is a sentence.

set -u
n=0
dir=

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

[ -x "${VECFS:-}" ] || skip_all "no vecfs program"
[ -r /dev/fuse ] && [ -w /dev/fuse ] || skip_all "no /dev/fuse"
command -v fusermount3 >/dev/null || skip_all "no fusermount3"

dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-test.XXXXXX") || exit 99
S=$dir/store M=$dir/mount
mkdir "$M"

# By now its number may be that of somebody else.
is_daemon() { tr '\0' ' ' <"/proc/$daemon/cmdline" 2>/dev/null | grep -qF "$dir/"; }
cleanup() {
	cd /
	fusermount3 -u -z "$M" 2>/dev/null
	if [ -n "${daemon:-}" ]; then
		for _ in $(seq 100); do is_daemon || break; sleep 0.1; done
		is_daemon && kill -9 "$daemon"
	fi
	${undo:-:}
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 99' INT TERM HUP

# The mount is ready when the program goes to the background.
start() {
	"$VECFS" "$S" "$M" "$@" >"$dir/log" 2>&1 || { sed 's/^/# /' "$dir/log"; echo "Bail out! cannot mount"; exit 99; }
	daemon=$(daemon_of "$S")
}
# The daemon's pid, as the store's lock has it.
daemon_of() { head -n 1 "$1/.vecfs/lock"; }
# Whoever looks at all mounts of a machine makes each of them busy for a moment.
stop() {
	for _ in $(seq 20); do fusermount3 -u "$M" 2>/dev/null && break; sleep 0.1; done
	! mountpoint -q "$M" || return
	for _ in $(seq 200); do kill -0 "$daemon" 2>/dev/null || return 0; sleep 0.05; done
	return 1
}

pass() { n=$((n + 1)); echo "ok $n - $1"; }
flunk() {
	n=$((n + 1))
	echo "not ok $n - $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

# ok SENTENCE COMMAND...: it succeeds.
ok() {
	local sentence=$1 out
	shift
	if out=$("$@" 2>&1 | tr -d '\0'; exit "${PIPESTATUS[0]}"); then pass "$sentence"; else flunk "$sentence" "$* failed ($?)" "$out"; fi
}
# fails SENTENCE WORDS COMMAND...: it fails, and says WORDS.
fails() {
	local sentence=$1 words=$2 out
	shift 2
	if out=$("$@" 2>&1); then flunk "$sentence" "$* succeeded"; else
		case $out in *"$words"*) pass "$sentence" ;; *) flunk "$sentence" "expected: $words" "got: $out" ;; esac
	fi
}
# is SENTENCE GOT EXPECTED
is() { if [ "$2" = "$3" ]; then pass "$1"; else flunk "$1" "got:      $2" "expected: $3"; fi; }
# has SENTENCE TEXT WORDS
has() { case $2 in *"$3"*) pass "$1" ;; *) flunk "$1" "got:      $2" "expected: $3" ;; esac; }
hasnot() { case $2 in *"$3"*) flunk "$1" "got: $2" "not expected: $3" ;; *) pass "$1" ;; esac; }
finish() { echo "1..$n"; }

# An index with three dimensions at $M/b/i, in which the checks play.
new_index() {
	I=$M/b/i
	mkdir -p "$I" && echo 'dimension = 3' >"$I/config"
}
record() { printf '{"data": [%s], "metadata": %s}\n' "$1" "${2:-{\}}"; }
# ask QUESTION: on a descriptor of its own.
ask() {
	local fd
	exec {fd}<>"$I/query"
	printf '%s\n' "$1" >&$fd && cat <&$fd
	local rc=$?
	exec {fd}>&-
	return $rc
}
