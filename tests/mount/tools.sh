#!/bin/bash
# SPDX-License-Identifier: MIT
# The tools that everybody has: cp, mv, cat, dd, tar, rsync, sed -i, vim, zip, find, node and perl do here what they do elsewhere.
. "${SRCDIR:-.}/tests/mount/lib.sh"
start
new_index
V=$I/vectors
T=$dir/t
mkdir "$T"

record 1,0,0 '{"n": 1}' >"$T/a.json"
record 0,1,0 '{"n": 2}' >"$T/b.json"

# cp
ok "cp puts a record in" cp "$T/a.json" "$V/a.msgpack"
has "and it is there as JSON too" "$(cat "$V/a.json")" '"key": "a"'
ok "cp of a record's file copies the record" cp "$V/a.msgpack" "$V/copy.msgpack"
has "under the key of its new name" "$(cat "$V/copy.json")" '"key": "copy", "data": {"float32": [1.0, 0.0, 0.0]}'
ok "cp out of the mount gives the bytes" cp "$V/a.msgpack" "$T/out.msgpack"
ok "which are those that reading gives" cmp "$T/out.msgpack" "$V/a.msgpack"
ok "cp of those bytes back changes nothing" cp "$T/out.msgpack" "$V/a.msgpack"
ok "not one byte" cmp "$T/out.msgpack" "$V/a.msgpack"
touch -d '2020-02-02 02:02:02 UTC' "$T/a.json"
ok "cp -p keeps the time" cp -p "$T/a.json" "$V/old.msgpack"
is "of the file that was copied" "$(stat -c %Y "$V/old.msgpack")" "$(stat -c %Y "$T/a.json")"
printf '{"data": [1, 2]}' >"$T/short.json"
fails "cp of a vector with the wrong dimension fails" "Invalid argument" cp "$T/short.json" "$V/short.msgpack"
ok "and leaves nothing behind" test ! -e "$V/short.msgpack"
fails "the same over a good record fails" "Invalid argument" cp "$T/short.json" "$V/a.msgpack"
ok "and leaves that as it was" cmp "$T/out.msgpack" "$V/a.msgpack"

# mv
ok "mv from another filesystem puts a record in" mv "$T/b.json" "$V/b.msgpack"
ok "and takes it away there" test ! -e "$T/b.json"
inode=$(stat -c %i "$V/b.msgpack")
ok "mv inside gives a record a new key" mv "$V/b.msgpack" "$V/c.msgpack"
ok "the old key is gone" test ! -e "$V/b.msgpack"
has "the new one is in the record" "$(cat "$V/c.json")" '"key": "c"'
is "its inode number stays" "$(stat -c %i "$V/c.msgpack")" "$inode"
ok "mv replaces" mv "$V/c.msgpack" "$V/copy.msgpack"
has "what was there" "$(cat "$V/copy.json")" '"n": 2'
ok "mv -n does not replace" mv -n "$V/copy.msgpack" "$V/a.msgpack"
has "what is there" "$(cat "$V/a.json")" '"n": 1'
mkdir "$M/b/other" && echo 'dimension = 3' >"$M/b/other/config"
ok "mv to another index copies" mv "$V/copy.msgpack" "$M/b/other/vectors/copy.msgpack"
has "the record" "$(cat "$M/b/other/vectors/copy.json")" '"n": 2'
ok "and deletes it here" test ! -e "$V/copy.msgpack"

# the shell and its small friends
: >"$V/a.msgpack"
ok "an empty write leaves a record as it is" cmp "$T/out.msgpack" "$V/a.msgpack"
: >"$V/nothing.msgpack"
ok "and makes none" test ! -e "$V/nothing.msgpack"
ok "touch of a new name succeeds" touch "$V/nothing.msgpack"
ok "and makes none either" test ! -e "$V/nothing.msgpack"
{ printf '{"data": [0,'; printf '0,'; printf '3]}'; } >"$V/pieces.msgpack"
has "a record may come in pieces" "$(cat "$V/pieces.json")" '[0.0, 0.0, 3.0]'
(cat <(printf '{"data": [0,'); cat <(printf '0,4]}')) >"$V/forks.msgpack"
has "also from several processes" "$(cat "$V/forks.json")" '[0.0, 0.0, 4.0]'
out=$( { printf '{"data": [0,' >"$V/half.msgpack"; } 2>&1)
ok "an incomplete record is not kept" test ! -e "$V/half.msgpack"
has "errors says that it was incomplete" "$(tail -n 1 "$I/errors")" "not complete"
if echo '{"data": [1,2]}' 2>"$T/echo" >"$V/bad.msgpack"; then flunk "echo sees that its record is wrong"; else pass "echo sees that its record is wrong"; fi
has "as the errno says" "$(cat "$T/echo")" "Invalid argument"
exec 4<"$V/a.msgpack"
record 0,0,1 '{"n": 77}' >"$V/a.msgpack"
ok "an open descriptor reads the bytes that it opened" cmp - "$T/out.msgpack" <&4
exec 4<&-
has "a new one the new bytes" "$(cat "$V/a.json")" '"n": 77'
ok "dd writes in small blocks" dd if="$T/out.msgpack" of="$V/dd.msgpack" bs=7 status=none
has "a whole record" "$(cat "$V/dd.json")" '"n": 1'
cp "$T/a.json" "$V/d.msgpack"
ok "dd conv=notrunc writes over what is there" dd if="$T/out.msgpack" of="$V/d.msgpack" conv=notrunc status=none
printf '\x07' | dd of="$V/d.msgpack" bs=1 seek=$(($(stat -c %s "$V/d.msgpack") - 1)) conv=notrunc status=none
has "or one byte of it" "$(cat "$V/d.json")" '"n": 7'
ok "truncate -s 0 leaves a record" truncate -s 0 "$V/d.msgpack"
has "as it is" "$(cat "$V/d.json")" '"n": 7'
fails "truncate to another size fails" "Invalid argument" truncate -s 5 "$V/d.msgpack"
ok "tee writes one" bash -c 'tee "$1" <"$2" >/dev/null' - "$V/tee.msgpack" "$T/out.msgpack"
ok "install writes one" install -m 644 "$T/out.msgpack" "$V/install.msgpack"
ok "ln -s has no meaning here" bash -c '! ln -s x "$1" 2>/dev/null' - "$V/link.msgpack"
fails "nor has ln" "Operation not permitted" ln "$V/a.msgpack" "$V/hard.msgpack"
fails "nor mkfifo" "Operation not permitted" mkfifo "$V/fifo.msgpack"
fails "nor mkdir" "Operation not permitted" mkdir "$V/dir"
fails "a name that is none of a record's fails" "Invalid argument" cp "$T/a.json" "$V/name.txt"
has "and errors says which names there are" "$(tail -n 1 "$I/errors")" "KEY.msgpack"

# times and modes
ok "touch -d sets the time of a record" touch -d '2021-01-01 00:00:00 UTC' "$V/a.msgpack"
is "which is kept" "$(stat -c %Y "$V/a.msgpack")" 1609459200
ok "chmod of a record succeeds" chmod 600 "$V/a.msgpack"
ok "chown of a record succeeds" chown "$(id -u)" "$V/a.msgpack"

# tar
ok "tar packs vectors/" tar -C "$I" -cf "$T/v.tar" vectors
ok "every record once" test "$(tar -tf "$T/v.tar" | grep -c msgpack)" = "$(ls "$V" | wc -l)"
mkdir "$M/b/tar" && echo 'dimension = 3' >"$M/b/tar/config"
ok "tar unpacks into another index" tar -C "$M/b/tar" -xf "$T/v.tar"
ok "the same records" diff -r "$V" "$M/b/tar/vectors"
is "with their times" "$(stat -c %Y "$M/b/tar/vectors/a.msgpack")" 1609459200

# rsync
if command -v rsync >/dev/null; then
	mkdir "$M/b/rsync" && echo 'dimension = 3' >"$M/b/rsync/config"
	ok "rsync -a copies into an index" rsync -a "$V/" "$M/b/rsync/vectors/"
	ok "all of it" diff -r "$V" "$M/b/rsync/vectors"
	is "and finds nothing to do then" "$(rsync -ai "$V/" "$M/b/rsync/vectors/" | grep -v '^\.d')" ""
	record 9,9,9 '{"n": 99}' >"$V/a.msgpack"
	ok "rsync --inplace brings one change" rsync -a --inplace "$V/" "$M/b/rsync/vectors/"
	has "over" "$(cat "$M/b/rsync/vectors/a.json")" '"n": 99'
	ok "rsync --delete deletes" bash -c 'rm "$1/tee.msgpack" && rsync -a --delete "$1/" "$2/"' - "$V" "$M/b/rsync/vectors"
	ok "what is gone" test ! -e "$M/b/rsync/vectors/tee.msgpack"
	ok "rsync out gives plain files" rsync -a "$V/" "$T/plain/"
	ok "the same bytes" diff -r "$V" "$T/plain"
fi

# editors
cp "$T/a.json" "$V/edit.msgpack"
ok "sed -i edits config" sed -i 's/^top_k = .*/top_k = 7/' "$I/config"
has "in place" "$(cat "$I/config")" "top_k = 7"
fails "sed -i cannot break config" "sed" sed -i 's/^top_k = .*/top_k = many/' "$I/config"
has "which stays" "$(cat "$I/config")" "top_k = 7"
ok "and leaves no temporary file" bash -c '! ls -A "$1" | grep -q ^sed' - "$I"
if command -v vim >/dev/null; then
	ok "vim edits config" vim -es -u NONE -c 'set nocp' -c '%s/^top_k = \d*/top_k = 8/' -c 'wq' "$I/config"
	has "in place too" "$(cat "$I/config")" "top_k = 8"
	ok "vim edits a record as JSON" vim -es -u NONE -c 'set nocp' -c '%s/"n": 1/"n": 11/' -c 'wq' "$V/edit.json"
	has "in place as well" "$(cat "$V/edit.json")" '"n": 11'
	ok "vim with a backup does" vim -es -u NONE -c 'set nocp backup writebackup backupcopy=no' -c '%s/"n": 11/"n": 12/' -c 'wq' "$V/edit.json"
	has "and the record is the new one" "$(cat "$V/edit.json")" '"n": 12'
	rm -f "$V"/*~
fi
before=$(cat "$V/edit.json")
mv "$V/edit.msgpack" "$V/edit.msgpack~"
ok "a record moved to a temporary name is out of the way" test ! -e "$V/edit.msgpack"
ok "and comes back" mv "$V/edit.msgpack~" "$V/edit.msgpack"
is "as it was" "$(cat "$V/edit.json")" "$before"

# archives
if command -v unzip >/dev/null && command -v zip >/dev/null; then
	(cd "$T/plain" && zip -q ../v.zip *.msgpack)
	ok "unzip unpacks" unzip -qo "$T/v.zip" -d "$V"
fi

# find, du, wc, grep
is "find meets every record once" "$(find "$V" -type f | sort | uniq -d)" ""
is "and as many as ls" "$(find "$V" -type f | wc -l)" "$(ls "$V" | wc -l)"
ok "du works" du -s "$M"

# Back in, cp and mv go by the inode numbers of the disk, and vectors need the dimension that config says: there it gets the lower number.
mkdir "$T/cp" "$T/others"
: >"$T/cp/config"
while mkdir "$T/cp/vectors" && [ "$(stat -c %i "$T/cp/vectors")" -lt "$(stat -c %i "$T/cp/config")" ]; do
	mv "$T/cp/vectors" "$T/others/$((n_others = ${n_others:-0} + 1))"
done
is "cp -r out of an index copies the records" "$(cp -r "$I/." "$T/cp" 2>&1; ls "$T/cp/vectors" | wc -l)" "$(ls "$V" | wc -l)"
is "and config" "$(cat "$T/cp/config")" "$(cat "$I/config")"

# whole indexes
echo '{"key": "a", "topK": 2}' >"$I/queries/q.json"
ok "cp -r copies an index to a new one" cp -r "$I" "$M/b/cp"
ok "its records" diff -r "$V" "$M/b/cp/vectors"
ok "its config" cmp "$I/config" "$M/b/cp/config"
ok "its questions" diff -r "$I/queries" "$M/b/cp/queries"
ok "which are answered there" cmp "$I/answers/q.json" "$M/b/cp/answers/q.json"
ok "cp -a does" cp -a "$I" "$M/b/cpa"
ok "cp -r of what was copied out puts it back" cp -r "$T/cp" "$M/b/back"
ok "all of it" diff -r "$V" "$M/b/back/vectors"
ok "mv of a directory from elsewhere makes an index of it" mv "$T/cp" "$M/b/moved"
ok "with all records" diff -r "$V" "$M/b/moved/vectors"
fails "a cp -r into an index that is there is another thing" "Operation not permitted" cp -r "$I" "$M/b/cp"
if command -v rsync >/dev/null; then
	ok "rsync -a copies an index to a new one, config first" rsync -a "$I/" "$M/b/sync/"
	ok "with its records" diff -r "$V" "$M/b/sync/vectors"
fi

# an index goes
ok "rm -r of an index works" rm -r "$M/b/rsync"
ok "it is gone" test ! -e "$M/b/rsync"
fails "rmdir of an index with vectors fails" "not empty" rmdir "$I"
ok "rm -rf of a bucket works" rm -rf "$M/b"
is "all is gone" "$(ls "$M")" ""
finish
