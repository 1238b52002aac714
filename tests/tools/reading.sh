#!/bin/bash
# SPDX-License-Identifier: MIT
# Tools that read: each gets the whole of a file, whatever it opens, seeks, maps or stats first.
. "${SRCDIR:-.}/tests/tools/lib.sh"

K=$V/k3.msgpack P=$F/k3.msgpack
export K P

# one file
does cat "reads a record" 'cat "$K" | cmp - "$P"'
does cat "reads several in order" 'cat "$V"/*.msgpack | cmp - <(cat "$F"/*.msgpack)'
does cat "reads config" 'cat "$I/config" | grep -c "^dimension = 3 "' 1
does cat "reads a view" 'cat "$I/vectors.keys"' $'k1\nk2\nk3\nk4\nk5'
does cat "reads an answer" 'cat "$I/answers/q.json" | tr -d "\n" | cut -c1-29' '{"vectors": [{"key": "k5"}, {'
does cp "copies a file out" 'cp "$K" out && cmp out "$P"'
does cp "--reflink=auto --sparse=always does too" 'cp --reflink=auto --sparse=always "$K" out2 && cmp out2 "$P"'
does cp "-a keeps time and mode" 'cp -a "$K" out3 && test "$(stat -c "%Y %a %s" out3)" = "$(stat -c "%Y %a %s" "$K")"'
does dd "reads in blocks of 1" 'dd if="$K" bs=1 status=none | cmp - "$P"'
does dd "reads in blocks of 1M with direct input" 'dd if="$K" bs=1M iflag=direct status=none | cmp - "$P"'
does dd "skips" 'dd if="$K" bs=1 skip=5 count=3 status=none | cmp - <(dd if="$P" bs=1 skip=5 count=3 status=none)'
does install "copies out" 'install -m 600 "$K" inst && cmp inst "$P"'
does wc "-c counts by the size" 'test "$(wc -c <"$K")" = "$(wc -c <"$P")"'
does wc "-l counts lines of a view" 'wc -l <"$I/vectors.jsonl"' 5
does head "-c reads the beginning" 'head -c 4 "$K" | cmp - <(head -c 4 "$P")'
does tail "-c reads the end" 'tail -c 4 "$K" | cmp - <(tail -c 4 "$P")'
does tail "-n reads the last line of a view" 'tail -n 1 "$I/vectors.keys"' k5
does sed "prints a line" 'sed -n 2p "$I/vectors.keys"' k2
does grep "-c counts matches in a view" 'grep -c k "$I/vectors.keys"' 5
does grep "-r ends, without a search for near/" 'grep -rl "float32" "$I" | sort | sed "s|.*/||"' \
	$'k1.msgpack\nk2.msgpack\nk3.msgpack\nk4.msgpack\nk5.msgpack'
does gawk "reads a record of JSON" 'gawk "{ n += length(\$0) } END { print (n > 0) }" "$V/k1.json"' 1
does gzip "-c packs it" 'gzip -c "$K" | gunzip | cmp - "$P"'
does xz "-c packs it" 'xz -c "$K" | xz -d | cmp - "$P"'
does zstd "-c packs it" 'zstd -qc "$K" | zstd -dqc | cmp - "$P"'
does sha256sum "-c agrees with the copies" '(cd "$F" && sha256sum *) >sums && cd "$V" && sha256sum --quiet -c "$T/sums"'
does cmp "compares" 'cmp "$K" "$P"'
does diff "-r finds vectors/ and their copies equal" 'diff -r "$V" "$F"'
does od "reads at an offset" 'od -An -tx1 -j 3 -N 4 "$K" | cmp - <(od -An -tx1 -j 3 -N 4 "$P")'
does xxd "reads" 'xxd "$K" | cmp - <(xxd "$P")'
does file "looks at one" 'file -b "$V/k1.json" | grep -ci "json\|text"' 1
does split "cuts a view" 'split -l 2 "$I/vectors.jsonl" piece. && cat piece.* | cmp - "$I/vectors.jsonl"'
does sort "sorts a view" 'sort -r "$I/vectors.keys" | head -n 1' k5
does join "joins two views" 'join "$I/vectors.keys" "$I/vectors.keys" | wc -l' 5
does jq "reads lines of JSON" 'jq -r .key "$I/vectors.jsonl" | tail -n 1' k5
does jq "reads an answer" 'jq -r ".vectors[0].key" "$I/answers/q.json"' k5
does git "hash-object reads a file" 'test "$(git hash-object "$K")" = "$(git hash-object "$P")"'
does git "diff --no-index compares" 'git --no-pager diff --no-index --stat "$V" "$F"' ""
does curl "reads file://" 'curl -s "file://$K" | cmp - "$P"'
does curl "reads a range of file://" 'curl -s -r 2-5 "file://$K" | cmp - <(tail -c +3 "$P" | head -c 4)'
does sqlite3 "reads a file as a blob" 'sqlite3 :memory: "select length(readfile('"'"'$K'"'"')) = $(stat -c %s "$P")"' 1

# many files
does ls "lists in the order of keys" 'ls -U "$V" | tr "\n" " "' 'k1.msgpack k2.msgpack k3.msgpack k4.msgpack k5.msgpack '
does ls "-laR lists everything" 'ls -laR "$M" | grep -c "k[1-5].msgpack"' 5
does ls "of near/KEY shows its neighbours" 'ls "$I/near/k5" | head -n 1' 0001-k4.msgpack
does readlink "follows a neighbour" 'readlink -f "$I/near/k5/0001-k4.msgpack" | sed "s|.*/||"' k4.msgpack
does find "meets every record once" 'find "$M" -name "k*.msgpack" | wc -l' 5
does find "-size sees sizes" 'find "$V" -size +0c -name "*.msgpack" | wc -l' 5
does find "-newermt sees times" 'touch -d 2001-01-01 "$V/k1.msgpack" && find "$V" -not -newermt 2002-01-01 -name "k*" | sed "s|.*/||"' k1.msgpack
does du "-b adds sizes up" 'test "$(cat "$V"/* | wc -c)" = "$(du -b "$V"/* | gawk "{ n += \$1 } END { print n }")"'
does stat "knows size, type and one link" 'stat -c "%F %h" "$K"' 'regular file 1'
does stat "-f knows the filesystem" 'stat -f -c %l "$M"' 255
does df "tells of the disk below" 'test "$(df --output=size "$M" | tail -n 1)" = "$(df --output=size "$S" | tail -n 1)"'
does tree "walks" 'tree "$M" | grep -c "k[1-5]\.msgpack"' 5
does cp "-r copies an index" 'cp -r "$I" copy && cmp copy/config "$I/config" && diff -r copy/vectors "$V" && cat copy/answers/q.json | cmp - "$I/answers/q.json"'
does cp "-a copies an index" 'cp -a "$I" copya && diff -r copya/vectors "$V"'
does rsync "-a copies an index" 'rsync -a "$I/" rs/ && diff -r rs/vectors "$V"'
does rsync "-a has nothing more to copy then" 'rsync -ai "$V/" rs/vectors/' ""
does rsync "-ac compares contents" 'rsync -aic "$V/" rs/vectors/' ""
does tar "packs an index" 'tar -C "$I" -cf i.tar . && tar -tf i.tar | grep -c "vectors/k"' 5
does tar "-d finds nothing different" 'tar -C "$V" -cf v.tar . && tar -C "$V" -df v.tar' ""
does tar "puts config first" 'tar -tf i.tar | grep -v /$ | head -n 1' ./config
does bsdtar "packs" 'bsdtar -C "$I" -cf b.tar vectors && bsdtar -tf b.tar | grep -c "vectors/k"' 5
does cpio "packs" '(cd "$I" && find vectors | cpio -o --quiet) >v.cpio && cpio -t --quiet <v.cpio | grep -c "vectors/k"' 5
does zip "packs" '(cd "$I" && zip -qr "$T/i.zip" .) && unzip -tq i.zip >/dev/null && unzip -l i.zip | grep -c "vectors/k"' 5
does git "add takes vectors/ along" 'git init -q g && cp -r "$V" g/v && cd g && git add -A && git ls-files | wc -l' 5
does busybox:cat "reads" 'busybox cat "$K" | cmp - "$P"'
does busybox:cp "copies out" 'busybox cp "$K" bb && cmp bb "$P"'
does busybox:tar "packs" 'busybox tar -C "$I" -cf bb.tar vectors && busybox tar -tf bb.tar | grep -c "vectors/k"' 5
does busybox:find "walks" 'busybox find "$V" -type f | wc -l' 5
does busybox:du "sums" 'busybox du -s "$V" >/dev/null'
does busybox:sha256sum "agrees" 'test "$(busybox sha256sum <"$K")" = "$(busybox sha256sum <"$P")"'

# programs
does python3 "reads, maps, sends and copies" 'python3 - "$K" "$P" <<"EOF"
import mmap, os, shutil, sys
k, p = sys.argv[1:]
want = open(p, "rb").read()
assert open(k, "rb").read() == want
with open(k, "rb") as f:
    assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:] == want
    assert os.pread(f.fileno(), 5, 3) == want[3:8]
for copy in (shutil.copyfile, shutil.copy, shutil.copy2):
    copy(k, "py")
    assert open("py", "rb").read() == want
i, o = os.open(k, os.O_RDONLY), os.open("sent", os.O_RDWR | os.O_CREAT)
assert os.sendfile(o, i, 0, 1 << 20) == len(want)
r, w = os.pipe()
assert os.splice(i, w, 1 << 16, offset_src=0) == len(want) and os.read(r, 1 << 16) == want
i, o = os.open(k, os.O_RDONLY), os.open("ranged", os.O_RDWR | os.O_CREAT)
try:
    assert os.copy_file_range(i, o, 1 << 20) == len(want)
except OSError as e:
    import errno
    assert e.errno in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP), e
EOF'
does /usr/bin/python3 "maps vectors.npy with numpy" '/usr/bin/python3 -c "
import numpy, sys
a = numpy.load(sys.argv[1], mmap_mode=\"r\")
assert a.shape == (5, 3) and a.dtype == numpy.float32 and a[4].tolist() == [5, 0, 1], a
" "$I/vectors.npy"'
does python3 "walks with shutil.copytree" 'python3 -c "
import shutil, sys
shutil.copytree(sys.argv[1], \"tree\")" "$I" && diff -r tree/vectors "$V"'
does node "reads, copies and walks" 'node -e "
const fs = require(\"fs\"), [k, p, d] = process.argv.slice(1), want = fs.readFileSync(p);
if (!fs.readFileSync(k).equals(want)) throw 1;
fs.copyFileSync(k, \"node\");
if (!fs.readFileSync(\"node\").equals(want)) throw 2;
if (fs.readdirSync(d, { withFileTypes: true }).filter(e => e.isFile()).length !== 5) throw 3;
fs.cpSync(d, \"nodes\", { recursive: true });
if (fs.readdirSync(\"nodes\").length !== 5) throw 4;
fs.createReadStream(k).pipe(fs.createWriteStream(\"piped\")).on(\"close\", () => { if (!fs.readFileSync(\"piped\").equals(want)) throw 5; });
" "$K" "$P" "$V"'
does perl "reads, seeks and slurps" 'perl -e "
use strict; my (\$k, \$p) = @ARGV; local \$/;
open my \$f, \"<:raw\", \$k or die; my \$a = <\$f>; open my \$g, \"<:raw\", \$p or die; my \$b = <\$g>;
\$a eq \$b or die \"bytes\"; -s \$k == length \$b or die \"size\"; seek \$f, -3, 2; read \$f, my \$c, 9; \$c eq substr(\$b, -3) or die \"end\";
" "$K" "$P"'
does ed "opens config" 'printf "%s\n" "g/^dimension/p" q | ed -s "$I/config" | cut -c1-13' 'dimension = 3'
does less "pages" 'less -E "$I/config" </dev/null | grep -c "^dimension = 3"' 1
is "no search was run by those who list, stat and archive" "$(cat "$I/errors")" ""
finish
