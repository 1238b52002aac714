#!/bin/bash
# SPDX-License-Identifier: MIT
# Owners and modes: those of bucket and index, kept, and enforced by the kernel. Other users need allow_other, so this runs as root.
. "${SRCDIR:-.}/tests/mount/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "not root"
command -v setpriv >/dev/null || skip_all "no setpriv"
as() { local uid=$1; shift; setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"; }
chmod 755 "$dir"
start -o allow_other
ok "chmod of the root" chmod 1777 "$M"
umask 022
ok "a user makes a bucket" as 1001 mkdir "$M/mine"
is "which is the user's" "$(stat -c '%u:%g %a' "$M/mine")" "1001:1001 755"
ok "and an index" as 1001 mkdir "$M/mine/i"
I=$M/mine/i
is "whose files are the user's" "$(stat -c '%u %a' "$I/config" "$I/vectors" "$I/insert" "$I/stats" | tr '\n' ' ')" "1001 644 1001 755 1001 644 1001 644 "
ok "the user sets config" as 1001 sh -c 'echo "dimension = 3" >"$1"' - "$I/config"
record 1,2,3 '{"n": 1}' >"$dir/r.json"
ok "and puts records in" as 1001 cp "$dir/r.json" "$I/vectors/a.msgpack"
is "which are the user's" "$(stat -c '%u %a' "$I/vectors/a.msgpack")" "1001 644"
fails "another user does not" "Permission denied" as 1002 cp "$dir/r.json" "$I/vectors/b.msgpack"
fails "nor overwrites" "Permission denied" as 1002 sh -c 'echo x >"$1"' - "$I/vectors/a.msgpack"
fails "nor deletes" "Permission denied" as 1002 rm -f "$I/vectors/a.msgpack"
fails "nor inserts" "Permission denied" as 1002 sh -c 'echo x >"$1"' - "$I/insert"
fails "nor configures" "Permission denied" as 1002 sh -c 'echo x >"$1"' - "$I/config"
fails "nor makes temporary files" "Permission denied" as 1002 sh -c 'echo x >"$1"' - "$I/vectors/.x"
fails "nor removes the index" "Permission denied" as 1002 rmdir "$I"
fails "nor gives it another mode" "Operation not permitted" as 1002 chmod 777 "$I"
ok "but reads" as 1002 cat "$I/vectors/a.msgpack"
has "and asks, which changes nothing" "$(as 1002 bash -c 'exec 3<>"$1"; echo "{}" >&3; cat <&3' - "$I/query")" '"key": "a"'
ok "chmod 700 closes the index" as 1001 chmod 700 "$I"
fails "for reading" "Permission denied" as 1002 cat "$I/vectors/a.msgpack"
fails "and for listing" "Permission denied" as 1002 ls "$I"
ok "chmod 770 and chgrp open it to a group" sh -c 'chgrp 1002 "$1" && chmod 770 "$1"' - "$I"
ok "which may write then" as 1002 cp "$dir/r.json" "$I/vectors/b.msgpack"
is "at once, also what was known before" "$(stat -c '%g %a' "$I/vectors/a.msgpack" "$I/vectors" | tr '\n' ' ')" "1002 660 1002 770 "
ok "chown by root" chown 1003:1003 "$I"
fails "takes it from the old owner" "Permission denied" as 1001 cat "$I/config"
ok "and gives it to the new" as 1003 cat "$I/config"
fails "which may not give it away" "Operation not permitted" as 1003 chown 1001 "$I"
ok "set-group-ID of a bucket" sh -c 'chgrp 1005 "$1" && chmod 2775 "$1"' - "$M/mine"
mkdir "$M/mine/g"
is "goes on to its indexes" "$(stat -c '%g %a' "$M/mine/g")" "1005 2755"
ok "the umask is respected" sh -c 'umask 077; mkdir "$1"' - "$M/private"
is "for a bucket" "$(stat -c %a "$M/private")" 700
fails "the sticky bit of the root keeps others' buckets" "not permitted" as 1002 mv "$M/mine" "$M/theirs"

# errors of one's own
chown 1001 "$I" && chmod 777 "$I"
as 1001 sh -c 'echo "{bad}" >"$1"' - "$I/vectors/x.msgpack" 2>/dev/null
as 1002 sh -c 'echo "[1]" >"$1"' - "$I/vectors/y.msgpack" 2>/dev/null
is "a user sees the own failures" "$(as 1001 cat "$I/errors" | grep -c x.msgpack)" 1
is "not those of others" "$(as 1001 cat "$I/errors" | grep -c y.msgpack)" 0
is "the other one the other" "$(as 1002 cat "$I/errors" | grep -c y.msgpack) $(as 1002 cat "$I/errors" | grep -c x.msgpack)" "1 0"
is "root all" "$(grep -c '[xy].msgpack' "$I/errors")" 2
is "with the exact size for each" "$(as 1001 stat -c %s "$I/errors")" "$(as 1001 cat "$I/errors" | wc -c)"

before=$(stat -c '%n %u %g %a' "$M" "$M"/* "$M"/*/* | sort)
stop
start -o allow_other
is "owners and modes are kept across remounts" "$(stat -c '%n %u %g %a' "$M" "$M"/* "$M"/*/* | sort)" "$before"
stop
start
fails "without allow_other only the mounting user gets in" "Permission denied" as 1001 ls "$M"
has "default_permissions always" "$(grep " $M " /proc/mounts)" default_permissions
stop
start -o ro
has "-o ro is a read-only mount" "$(grep " $M " /proc/mounts)" " ro,"
fails "nothing is written" "Read-only file system" cp "$dir/r.json" "$I/vectors/c.msgpack"
fails "nothing is made" "Read-only file system" mkdir "$M/new"
fails "nothing is deleted" "Read-only file system" rm "$I/vectors/a.msgpack"
ok "all can be read" cat "$I/vectors/a.msgpack" "$I/config" "$I/stats" "$I/vectors.jsonl"
ok "near/ too" ls "$I/near/a"
stop
start -o xattr
if command -v setfattr >/dev/null && command -v getfattr >/dev/null; then
	A=$I/vectors/a.msgpack
	is "-o xattr shows metadata" "$(getfattr --absolute-names --only-values -n user.vecfs.metadata.n "$A")" 1
	ok "and sets it" setfattr -n user.vecfs.metadata.lang -v en "$A"
	has "in the record" "$(cat "$I/vectors/a.json")" '"metadata": {"lang": "en", "n": 1}'
	ok "numbers as numbers" setfattr -n user.vecfs.metadata.n -v 2 "$A"
	has "in the record" "$(cat "$I/vectors/a.json")" '"n": 2'
	is "lists the fields" "$(getfattr "$A" 2>/dev/null | grep -c user.vecfs)" 2
	# in JSON
	for text in 12345 true '[1, 2]' '\"hi\"' 1.50 ' 7' null '{\"a\": 1}' plain; do
		echo "{\"data\": [1, 0, 0], \"metadata\": {\"text\": \"$text\"}}" >"$I/vectors/from.json"
		echo '{"data": [1, 0, 0], "metadata": {"text": "other"}}' >"$I/vectors/to.json"
		cp --attributes-only --preserve=xattr "$I/vectors/from.json" "$I/vectors/to.json"
		has "a copied string stays one: $text" "$(cat "$I/vectors/to.json")" "\"metadata\": {\"text\": \"$text\"}"
	done
	ok "and removes them" setfattr -x user.vecfs.metadata.n "$A"
	fails "for good" "No such attribute" getfattr -n user.vecfs.metadata.n "$A"
	is "cp --preserve=all copies a record without a word" "$(cp --preserve=all "$A" "$I/vectors/copied.msgpack" 2>&1)" ""
	is "with its fields" "$(getfattr --absolute-names --only-values -n user.vecfs.metadata.lang "$I/vectors/copied.msgpack")" en
	if command -v rsync >/dev/null; then
		is "rsync -X as well" "$(rsync -aX "$A" "$I/vectors/synced.msgpack" 2>&1)" ""
		is "also with its fields" "$(getfattr --absolute-names --only-values -n user.vecfs.metadata.lang "$I/vectors/synced.msgpack")" en
	fi
	fails "other names are none" "not supported" setfattr -n user.other -v x "$A"
fi
finish
