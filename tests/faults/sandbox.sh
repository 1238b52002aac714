#!/bin/bash
# SPDX-License-Identifier: MIT
# What the daemon gives up once it has mounted, and that it still does all that it has to: unmounted in every way, by root and by an ordinary
# user.
. "${SRCDIR:-.}/tests/mount/lib.sh"

V=$VECFS
pid() { daemon_of "$S"; }
status() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$(pid)/status"; }
gone() { for _ in $(seq 200); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done; return 1; }
helper() { pgrep -x vecfs-unmount -P "$(pid)"; }
all_threads() { cat /proc/"$(pid)"/task/*/status | awk -v name="$1:" '$1 == name { print $2 }' | sort -u; }

# As an ordinary user everything is run through this.
as=()
run_all() { # WHO
	"${as[@]}" "$V" "$S" "$M" || { flunk "$1: mounts"; return; }
	I=$M/b/i
	"${as[@]}" mkdir -p "$I"
	"${as[@]}" sh -c "echo 'dimension = 3' >$I/config; echo '{\"data\": [1,2,3]}' >$I/vectors/a.json"
	is "$1: no thread can get new privileges" "$(all_threads NoNewPrivs)" 1
	is "$1: it has no capabilities" "$(all_threads CapEff)$(all_threads CapPrm)" 00000000000000000000000000000000
	[ "$(status Seccomp)" = 0 ] || is "$1: every thread filters its system calls" "$(all_threads Seccomp)" 2
	"${as[@]}" sh -c "exec 2>/dev/null; echo '{' >$I/vectors/b.json"
	has "$1: a failure still names the command" "$("${as[@]}" cat "$I/errors")" " sh "
	daemon=$(pid) unmounter=$(helper)
	[ -n "$unmounter" ] && pass "$1: one small process stays outside" || flunk "$1: one small process stays outside"
	is "$1: it holds nothing open but the line to the daemon" "$(ls "/proc/$unmounter/fd" | tr '\n' ' ')" "0 1 2 3 "
	hasnot "$1: it is not taken for the daemon" "$(tr '\0' ' ' <"/proc/$unmounter/cmdline")" "$S"

	kill -TERM "$daemon"
	ok "$1: SIGTERM ends the daemon" gone "$daemon"
	ok "$1: and the process beside it" gone "$unmounter"
	hasnot "$1: and the mount is gone" "$(cat /proc/self/mounts)" " $M "

	"${as[@]}" "$V" "$S" "$M"
	daemon=$(pid)
	is "$1: what was written is there" "$("${as[@]}" cat "$I/vectors.keys")" a
	"${as[@]}" sh -c "exec 3<$I/vectors.keys; kill -TERM $daemon; sleep 0.5; cat <&3 >/dev/null" 2>/dev/null
	ok "$1: SIGTERM ends the daemon of a busy mount" gone "$daemon"
	hasnot "$1: and that mount is gone too" "$(cat /proc/self/mounts)" " $M "

	"${as[@]}" "$V" "$S" "$M"
	daemon=$(pid)
	ok "$1: fusermount3 -u unmounts" "${as[@]}" fusermount3 -u "$M"
	ok "$1: and the daemon ends" gone "$daemon"

	"${as[@]}" "$V" "$S" "$M"
	daemon=$(pid) unmounter=$(helper)
	kill -KILL "$daemon"
	ok "$1: when the daemon is killed, the process beside it ends" gone "$unmounter"
	fails "$1: the dead mount is recognised" "fusermount3 -u" "${as[@]}" "$V" "$S" "$M"
	ok "$1: and cleared as it says" "${as[@]}" fusermount3 -u "$M"
}

run_all "$(id -un)"
rm -rf "$S"

"$V" "$S" "$M" -o sandbox=no
is "sandbox=no: new privileges are as they were" "$(status NoNewPrivs)" "$(awk '/NoNewPrivs/ { print $2 }' /proc/self/status)"
is "sandbox=no: there is no process beside it" "$(helper)" ""
daemon=$(pid)
kill -TERM "$daemon"
ok "sandbox=no: SIGTERM ends it" gone "$daemon"
hasnot "sandbox=no: and the mount is gone" "$(cat /proc/self/mounts)" " $M "
fails "sandbox=maybe is no option" "unknown mount option" "$V" "$S" "$M" -o sandbox=maybe
rm -rf "$S"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && [ -u "$(command -v fusermount3)" ] &&
	setpriv --reuid nobody --regid nogroup --clear-groups test -w /dev/fuse; then
	chmod 755 "$dir"
	# Where the program lies, an ordinary user may not be able to look.
	cp "$VECFS" "$dir/vecfs" && V=$dir/vecfs
	mkdir "$dir/own" && chown nobody "$dir/own" "$M"
	S=$dir/own/store as=(setpriv --reuid nobody --regid nogroup --clear-groups)
	run_all "an ordinary user"
	umount -l "$M" 2>/dev/null
	# Root serves a store that only its owner may read.
	chmod 700 "$dir/own"
	as=()
	"$V" "$S" "$M"
	ok "root serves the store of another" ls "$M/b/i/vectors/a.msgpack"
	is "and keeps the one capability that this takes" "$(status CapEff)" 0000000000000002
	daemon=$(pid)
	stop
fi
finish
