#!/bin/bash
# SPDX-License-Identifier: MIT
# The tools beside the mount: what only looks changes no byte, no name and no time of a store, clean or damaged, and compaction gives disk
# back however it ends.
. "${SRCDIR:-.}/tests/mount/lib.sh"

# Names, sizes, modes, times and bytes.
picture() { (cd "$S" && find . -printf '%p %y %s %m %T@\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); }
unchanged() { # SENTENCE STATUS COMMAND...
	local sentence=$1 status=$2 before after rc
	shift 2
	before=$(picture)
	"$@" >"$dir/out" 2>&1
	rc=$?
	after=$(picture)
	is "$sentence: exit status $status" "$rc" "$status"
	is "$sentence: not one byte, name or time has changed" "$(diff <(echo "$before") <(echo "$after"))" ""
}
stream() { for i in $(seq "$1" "$2"); do echo "{\"key\": \"k$i\", \"data\": [$i,1,2], \"metadata\": {\"n\": $((i % 9)), \"pad\": \"$3\"}}"; done; }
size() { stat -c %s "$S/b/i/data.mdb"; }
stat_of() { awk -v name="$1" '$1 == name { print $2 }' "$I/stats"; }

start
new_index
mkdir "$M/empty" "$M/b/other"
stream 1 3000 "$(printf '%0500d' 0)" >"$I/insert"
echo '{"topK": 3}' >"$I/queries/q.json"
stop
unchanged "check of a store that was unmounted" 0 "$VECFS" check "$S"
unchanged "dump" 0 "$VECFS" dump "$S" b/i
rm "$S/b/i/lock.mdb"
unchanged "check of a copy without LMDB's lock file" 0 "$VECFS" check "$S"

start
stream 3001 3100 x >"$I/insert"
kill -9 "$daemon"
fusermount3 -u -z "$M"
unchanged "check of a store whose daemon was killed" 0 "$VECFS" check "$S"
mkdir "$S/b/i/compact.tmp" "$S/.trash/99" && cp "$S/b/i/data.mdb" "$S/b/i/compact.tmp" && cp "$S/b/i/data.mdb" "$S/.trash/99"
unchanged "check beside what an interruption left" 0 "$VECFS" check "$S"
start -o ro
has "a mount with -o ro says where it is, too" "$("$VECFS" "$S" "$M" 2>&1)" "mounted at $M"
stop
ok "and clears nothing" test -e "$S/b/i/compact.tmp/data.mdb"

# space
start
ok "the next start clears it" test ! -e "$S/b/i/compact.tmp" -a ! -e "$S/.trash/99"
is "nothing of the records" "$(wc -l <"$I/vectors.keys")" 3100
live=$(stat_of live_bytes)
delete_most() { echo '{"filter": {"n": {"$lt": 8}}}' >"$I/delete"; }
delete_most
is "stats shows fewer live bytes when most records are deleted, and the others as free" \
	"$(($(stat_of live_bytes) < live && $(stat_of free_bytes) > live / 2 && $(stat_of live_bytes) + $(stat_of free_bytes) <= $(stat_of file_bytes) + 65536))" 1
for round in 1 2 3 4; do
	stream 10001 12500 "$(printf '%0500d' "$round")" >"$I/insert"
	delete_most
	[ "$round" = 2 ] && full=$(stat_of file_bytes)
done
is "freed pages are used again: the file stops growing" "$(($(stat_of file_bytes) <= full + full / 4))" 1
stream 20001 20100 x >"$I/insert"
keys=$(sha256sum <"$I/vectors.msgpack")
stop
before=$(size)
for wait in 0.001 0.004 0.01 0.02; do
	"$VECFS" compact "$S" >/dev/null 2>&1 &
	sleep "$wait"
	kill -9 $! 2>/dev/null
	wait $! 2>/dev/null
	unchanged "check of a store whose compaction was killed after $wait s" 0 "$VECFS" check "$S"
done
ok "compact runs through" "$VECFS" compact "$S"
is "and gives more than half of the disk back" "$(($(size) * 2 < before))" 1
unchanged "check of what was compacted" 0 "$VECFS" check "$S"
start
is "every record is there, to the byte" "$(sha256sum <"$I/vectors.msgpack")" "$keys"
stop

# damage
for at in $(grep -abo '"\?pad' "$S/b/i/data.mdb" | head -n 400 | awk -F: 'NR % 9 == 0 { print $1 }'); do
	printf 'XX' | dd of="$S/b/i/data.mdb" bs=1 seek="$at" conv=notrunc status=none
done
unchanged "check of a damaged store" 4 "$VECFS" check "$S"
has "it says where" "$(cat "$dir/out")" "b/i: "
echo "vecfs 999" >"$S/.vecfs/format"
unchanged "check of a newer store" 1 "$VECFS" check "$S"
has "it says so in a sentence" "$(cat "$dir/out")" "was written by a newer vecfs (format 999"
fails "and so does a mount" "newer vecfs" "$VECFS" "$S" "$M"
finish
