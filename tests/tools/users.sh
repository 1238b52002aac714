#!/bin/bash
# SPDX-License-Identifier: MIT
# Two users and their tools on one mount: what the owner may do with cp, tar and rsync, what another may not, and who is told of it.
. "${SRCDIR:-.}/tests/mount/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "needs root, to become two users"
command -v setpriv >/dev/null || skip_all "no setpriv"
command -v rsync >/dev/null || skip_all "no rsync"

as() { local uid=$1; shift; setpriv --reuid="$uid" --regid="$uid" --clear-groups -- "$@"; }
chmod 755 "$dir"
start -o allow_other
chmod 777 "$M"
T=$dir/t && mkdir -m 777 "$T"
ann=1001 ben=1002
B=$M/ann I=$M/ann/i

ok "a user makes an index" as $ann bash -c 'mkdir -p "$1" && echo "dimension = 3" >"$1/config"' - "$I"
for k in 1 2 3; do record "$k,1,1" "{\"n\": $k}" >"$T/k$k.json"; done
ok "puts records in with cp" as $ann bash -c 'for k in 1 2 3; do cp "$1/k$k.json" "$2/k$k.msgpack"; done' - "$T" "$I/vectors"
as $ann bash -c 'echo "{\"queryVector\": [1,1,1]}" >"$1/q.json"' - "$I/queries"
ok "takes a copy with cp -a" as $ann cp -a "$I" "$T/copy"
ok "puts it back with cp -a" as $ann cp -a "$T/copy/." "$I/"
ok "with rsync -a" as $ann rsync -a "$T/copy/" "$I/"
is "which finds nothing more to do then" "$(as $ann rsync -ai "$T/copy/vectors/" "$I/vectors/" 2>&1)" ""
ok "with tar" as $ann bash -c 'tar -C "$1" -cf "$3/a.tar" . && tar -C "$2" -xpf "$3/a.tar"' - "$T/copy" "$I" "$T"
ok "into a new index, config first" as $ann bash -c 'mkdir "$2" && cp -p "$1/config" "$2/" && cp -a "$1/." "$2/" && diff -r "$1/vectors" "$2/vectors"' - "$T/copy" "$B/j"
ok "and moves that" as $ann mv "$B/j" "$B/k"

is "another user reads with cp -r" "$(as $ben cp -r "$I" "$T/ben" 2>&1; ls "$T/ben/vectors" | wc -l)" 3
is "with tar" "$(as $ben tar -C "$I" -cf - . | tar -tf - | grep -c vectors/k)" 3
ok "asks" as $ben bash -c 'exec 3<>"$1" && echo "{\"key\": \"k1\"}" >&3 && cat <&3' - "$I/query"
ok "and reads the answers" as $ben cat "$I/answers/q.json"
for try in "cp $T/k1.json $I/vectors/ben.msgpack" "cp $T/k1.json $I/vectors/k2.msgpack" "rm -f $I/vectors/k1.msgpack" "mv $I/vectors/k1.msgpack $I/vectors/k9.msgpack" \
	"touch -d 2001-01-01 $I/vectors/k1.msgpack" "chmod 777 $I" "rm -r $B/k" "rmdir $B" "mkdir $B/ben" "sed -i s/top_k/top_k/ $I/config" "truncate -s 0 $I/vectors/k1.msgpack" \
	"cp $T/k1.json $I/stats" "cp $T/k1.json $I/insert"; do
	# shellcheck disable=SC2086
	if as $ben $try >"$T/out" 2>&1 </dev/null; then flunk "but may not: ${try//$dir\//}" "it succeeded"; else pass "but may not: ${try//$dir\//}"; fi
done
is "nothing has changed by that" "$(as $ann bash -c 'cd "$1" && ls vectors && stat -c %a .' - "$I" | tr '\n' ' ')" "k1.msgpack k2.msgpack k3.msgpack 755 "

as $ann bash -c 'echo "{\"data\": [1]}" >"$1/wrong.msgpack"' - "$I/vectors" 2>/dev/null
mkdir "$M/open" && chmod 777 "$M/open" && as $ben bash -c 'mkdir "$1" && echo "dimension = many" >"$1/config"' - "$M/open/b" 2>/dev/null
has "the owner is told of the own failures" "$(as $ann cat "$I/errors")" "vector has 1 number"
is "the other is not" "$(as $ben cat "$I/errors" | grep -c 'vector has 1')" 0
has "but of the own ones" "$(as $ben cat "$M/.vecfs/errors")" "dimension"
is "and only of these" "$(as $ben cat "$M/.vecfs/errors" | grep -vc "uid=$ben")" 0
has "root is told of all" "$(cat "$M/.vecfs/errors")" "uid=$ann"
has "of both" "$(cat "$M/.vecfs/errors")" "uid=$ben"

ok "a group works together: chgrp and chmod 2770" bash -c 'chgrp 1002 "$1" && chmod 2770 "$1"' - "$I"
ok "its member puts a record in" as $ben cp "$T/k1.json" "$I/vectors/ben.msgpack"
ok "with rsync" as $ben rsync -rt --omit-dir-times "$T/copy/vectors/" "$I/vectors/"
fails "somebody else does not even see it" "Permission denied" as 1003 ls "$I"
fails "nor reads a record of a known name" "Permission denied" as 1003 cat "$I/vectors/k1.msgpack"
ok "the owner deletes the index with rm -r" as $ann rm -r "$I"
stop
ok "vecfs check finds nothing" "$VECFS" check "$S"
finish
