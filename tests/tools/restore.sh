#!/bin/bash
# SPDX-License-Identifier: MIT
# A copy of a whole index, put back: the computed files that it brings along are accepted and dropped, config keeps its time, and the
# fixed entries give way to tools that unlink first. The recipes of doc/TOOLS.md.
. "${SRCDIR:-.}/tests/tools/lib.sh"

touch -d '2020-01-02 03:04:05 UTC' "$I/config" "$Q/q.json"
rm -rf "$B" && cp -a "$I" "$B"
chmod 750 "$I" && chmod 755 "$I"
# same INDEX: it is what $I is, to the second.
same() {
	cmp "$I/config" "$1/config" && diff -r "$V" "$1/vectors" && cmp "$I/queries/q.json" "$1/queries/q.json" && cmp "$I/answers/q.json" "$1/answers/q.json" &&
		test "$(cd "$I" && stat -c '%n %Y' config vectors/* queries/*)" = "$(cd "$1" && stat -c '%n %Y' config vectors/* queries/*)" && test ! -s "$1/errors"
}
export -f same

does rsync "-a restores into a new index" 'rsync -a "$B/" "$M/b/r1/" && same "$M/b/r1"'
does rsync "-a has nothing to transfer then, but what is computed" 'rsync -ai "$B/" "$M/b/r1/" | grep -v "stats$" | grep -v "^\.d"; true' ""
does rsync "-a from index to index" 'mkdir "$M/b/r2" && rsync -a "$I/" "$M/b/r2/" && same "$M/b/r2"'
does rsync "-a again transfers nothing" 'rsync -ai "$I/" "$M/b/r2/" | grep -v "stats$" | grep -v "^\.d"; true' ""
does rsync "-a --delete" 'cp "$SEVEN" "$M/b/r2/vectors/more.msgpack" && rsync -a --delete "$I/" "$M/b/r2/" && same "$M/b/r2"'
does rsync "-aI --inplace" 'rsync -aI --inplace "$I/" "$M/b/r2/" && same "$M/b/r2"'
does cp "-a restores: config first, then all" 'mkdir "$M/b/c1" && cp -p "$B/config" "$M/b/c1/" && cp -a "$B/." "$M/b/c1/" && same "$M/b/c1"'
does cp "-r restores over what is there" 'cp -r "$B/." "$M/b/c1/" && cmp "$I/config" "$M/b/c1/config" && diff -r "$V" "$M/b/c1/vectors"'
does cp "-r of an index to the name of a new one makes that" 'cp -r "$I" "$M/b/c2" && diff -r "$V" "$M/b/c2/vectors" && cmp "$I/config" "$M/b/c2/config"'
does cp "-a does so too" 'cp -a "$I" "$M/b/c3" && same "$M/b/c3"'
does tar "x restores an archive of the mount" 'tar -C "$M/b" -cf m.tar i && mkdir -p "$M/t" && tar -C "$M/t" -xpf m.tar && same "$M/t/i"'
does tar "x restores it over what is there" 'tar -C "$M/t" -xpf m.tar && same "$M/t/i"'
does tar "x --overwrite does" 'tar -C "$M/t" --overwrite -xpf m.tar && same "$M/t/i"'
does tar "x restores an archive of a copy: config first" 'mkdir "$M/b/t2" && tar -C "$B" -cf b.tar . && tar -C "$M/b/t2" -xpf b.tar ./config && tar -C "$M/b/t2" -xpf b.tar && same "$M/b/t2"'
does bsdtar "x restores" 'mkdir "$M/bsd" && bsdtar -C "$M/bsd" -xpf m.tar && bsdtar -C "$M/bsd" -xpf m.tar && same "$M/bsd/i"'
does busybox:tar "x restores" 'mkdir "$M/bb" && busybox tar -C "$M/bb" -xf m.tar && busybox tar -C "$M/bb" -xf m.tar && same "$M/bb/i"'
does unzip "restores" '(cd "$M/b" && zip -qr "$T/m.zip" i) && mkdir "$M/z" && unzip -qo m.zip -d "$M/z" && unzip -qo m.zip -d "$M/z" && diff -r "$V" "$M/z/i/vectors"'
does cpio "-idum restores" '(cd "$M/b" && find i | cpio -o --quiet) >m.cpio && mkdir "$M/cp" && cd "$M/cp" && cpio -idum --quiet <"$T/m.cpio" && cpio -idum --quiet <"$T/m.cpio" && same "$M/cp/i"'
does python3 "shutil.copytree restores" 'mkdir "$M/b/py" && cp -p "$B/config" "$M/b/py/" && python3 -c "
import shutil, sys
shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)" "$B" "$M/b/py" && same "$M/b/py"'
does node "fs.cpSync restores" 'mkdir "$M/b/js" && cp -p "$B/config" "$M/b/js/" && node -e "
require(\"fs\").cpSync(process.argv[1], process.argv[2], { recursive: true, preserveTimestamps: true })" "$B" "$M/b/js" && same "$M/b/js"'

# entries that are always there
does rm "of config is accepted, and it stays" 'rm "$I/config" && grep -c "^dimension = 3 " "$I/config"' 1
does rm "of stats, insert and an answer too" 'rm "$I/stats" "$I/insert" "$I/answers/q.json" && test -e "$I/stats" && test -e "$I/insert" && test -e "$I/answers/q.json"'
does bash "> stats is accepted and changes nothing" 'echo x >"$I/stats" && grep -c "^vectors 5" "$I/stats"' 1
does cp "to answers/ is accepted and changes nothing" 'cp "$SEVEN" "$I/answers/q.json" && jq -r ".vectors[0].key" "$I/answers/q.json"' k5
does mv "of a temporary file over stats is accepted and changes nothing" 'echo x >"$I/.s.tmp" && mv "$I/.s.tmp" "$I/stats" && grep -c "^vectors 5" "$I/stats" && test ! -e "$I/.s.tmp"' 1
refuses mv "of a request over insert is refused: write it" "Operation not permitted" 'cp "$SEVEN" "$I/.s.tmp" && mv "$I/.s.tmp" "$I/insert"'
refuses cp "to a view is refused" "Operation not permitted" 'cp "$SEVEN" "$I/vectors.msgpack"'
does rm "-r of the index works" 'rm -f "$I/.s.tmp" && rm -r "$I" && test ! -e "$I"'
stop
ok "vecfs check finds nothing" "$VECFS" check "$S"
start
does stat "the time of config is kept across a remount" 'stat -c %Y "$M/b/r1/config"' 1577934245
finish
