#!/bin/bash
# SPDX-License-Identifier: MIT
# Tools that write: a record is put in whole or not at all, whatever sequence of opens, truncations, offsets and closes a tool has.
. "${SRCDIR:-.}/tests/tools/lib.sh"

one='{"data": [1,1,1]}'
export one
printf '{"data": [1, 2]}' >"$T/short.json"

# shells
does bash "> writes" 'echo "$one" >"$V/a.msgpack" && vector a' '[1.0, 1.0, 1.0]'
does bash "> writes over" 'echo "{\"data\": [2,1,1]}" >"$V/a.msgpack" && vector a' '[2.0, 1.0, 1.0]'
does bash "{ a; b; } > writes in pieces" '{ printf "{\"data\": "; printf "[3,1,"; echo "1]}"; } >"$V/b.msgpack" && vector b' '[3.0, 1.0, 1.0]'
does bash "( a; b ) > writes from two processes" '( cat <(printf "{\"data\": [4,"); cat <(echo "1,1]}") ) >"$V/b.msgpack" && vector b' '[4.0, 1.0, 1.0]'
does bash ">> to a new name writes" 'echo "$one" >>"$V/c.msgpack" && vector c' '[1.0, 1.0, 1.0]'
refuses bash ">> to a record is two records" "Invalid argument" 'echo "$one" >>"$V/c.msgpack"'
does bash "which leaves the old one" 'vector c' '[1.0, 1.0, 1.0]'
does bash ">> to config changes what it names" 'echo "top_k = 9" >>"$I/config" && grep -c "^top_k = 9 " "$I/config"' 1
does bash ">> to a saved question appends" 'printf "{}" >"$Q/w.json" && printf "\n" >>"$Q/w.json" && wc -l <"$Q/w.json"' 1
does bash ": > leaves a record as it is" ': >"$V/c.msgpack" && vector c' '[1.0, 1.0, 1.0]'
does bash "set -C (noclobber) creates" 'set -C; echo "$one" >"$V/noclobber.msgpack" && vector noclobber' '[1.0, 1.0, 1.0]'
refuses bash "set -C (noclobber) does not write over" "cannot overwrite" 'set -C; echo "$one" >"$V/noclobber.msgpack"'
does bash "exec 3<> asks and reads the answer" 'exec 3<>"$I/query"; echo "{\"key\": \"k5\", \"topK\": 1}" >&3; cat <&3 | cut -c1-29' '{"vectors": [{"key": "k4"}], '
does bash "> insert takes many" 'for i in 1 2 3; do echo "{\"key\": \"m$i\", \"data\": [$i,1,1]}"; done >"$I/insert" && ls "$V" | grep -c "^m"' 3
does bash "> delete deletes" 'echo "{\"keys\": [\"m1\", \"m2\", \"m3\"]}" >"$I/delete" && ls "$V" | grep -c "^m" || true' 0
refuses bash "> with an incomplete record fails at close" "" '! { printf "{\"data\": [1," >"$V/half.msgpack"; } && ! test -e "$V/half.msgpack" && tail -n 1 "$I/errors" | grep -q complete && echo gone && exit 1'
refuses dash "echo sees a wrong record" "" "sh -c 'echo \"{\\\"data\\\": [1,2]}\" >\"\$V/bad.msgpack\"'"
does busybox:sh "> writes" 'busybox sh -c "echo \"\$one\" >\"\$V/bsh.msgpack\"" && vector bsh' '[1.0, 1.0, 1.0]'

# copying
does cp "puts a record in" 'cp "$SEVEN" "$V/cp.msgpack" && vector cp' '[7.0, 7.0, 7.0]'
does cp "puts many in" 'mkdir many && cp "$F"/k*.msgpack many/ && cp many/* "$V/"'
does cp "-p keeps the time" 'touch -d 2001-02-03 "$SEVEN" && cp -p "$SEVEN" "$V/cp.msgpack" && stat -c %Y "$V/cp.msgpack"' "$(date -d 2001-02-03 +%s)"
does cp "-n leaves what is there" 'cp -n "$F/k1.msgpack" "$V/cp.msgpack"; vector cp' '[7.0, 7.0, 7.0]'
does cp "-u leaves what is newer" 'touch "$V/cp.msgpack"; cp -u "$SEVEN" "$V/cp.msgpack"; vector cp' '[7.0, 7.0, 7.0]'
does cp "-f replaces" 'cp -f "$F/k1.msgpack" "$V/cp.msgpack"; vector cp' '[1.0, 0.0, 1.0]'
does cp "--remove-destination replaces" 'cp --remove-destination "$SEVEN" "$V/cp.msgpack" && vector cp' '[7.0, 7.0, 7.0]'
does cp "--backup keeps the old one as a temporary file" 'cp --backup=simple "$F/k1.msgpack" "$V/cp.msgpack" && vector cp && rm "$V/cp.msgpack~"' '[1.0, 0.0, 1.0]'
does cp "-r puts a directory in" 'cp -r "$F/." "$V/"'
does cp "inside copies a record" 'cp "$V/k1.msgpack" "$V/twin.msgpack" && vector twin' '[1.0, 0.0, 1.0]'
does cp "--sparse=always writes" 'cp --sparse=always "$SEVEN" "$V/sparse.msgpack" && vector sparse' '[7.0, 7.0, 7.0]'
refuses cp "of a wrong record fails" "Invalid argument" 'cp short.json "$V/cp.msgpack"'
does cp "which leaves the old one" 'vector cp' '[1.0, 0.0, 1.0]'
refuses cp "of a wrong record under a new name fails" "Invalid argument" 'cp short.json "$V/new.msgpack"'
does cp "and leaves nothing" 'ls -A "$V" | grep -c new || true' 0
refuses cp "to a name that is none of a record's fails" "Invalid argument" 'cp "$SEVEN" "$V/seven.txt"'
refuses cp "-l has no hard links to make" "Operation not permitted" 'cp -l "$V/k1.msgpack" "$V/hard.msgpack"'
refuses cp "-s has no symbolic links to make" "Operation not permitted" 'cp -s "$V/k1.msgpack" "$V/soft.msgpack"'
does install "puts a record in" 'install -m 600 "$SEVEN" "$V/install.msgpack" && vector install' '[7.0, 7.0, 7.0]'
does install "replaces it" 'install -p "$F/k2.msgpack" "$V/install.msgpack" && vector install' '[2.0, 0.0, 1.0]'
does tee "writes" 'tee "$V/tee.msgpack" <"$SEVEN" >/dev/null && vector tee' '[7.0, 7.0, 7.0]'
does tee "writes two" 'tee "$V/tee.msgpack" "$V/tee2.msgpack" <"$F/k3.msgpack" >/dev/null && vector tee2' '[3.0, 0.0, 1.0]'
does tee "-a to insert adds" 'echo "{\"key\": \"tee3\", \"data\": [1,2,3]}" | tee -a "$I/insert" >/dev/null && vector tee3' '[1.0, 2.0, 3.0]'
refuses tee "of a wrong record fails" "Invalid argument" 'tee "$V/tee.msgpack" <short.json'

# dd
for bs in 1 3 7 4096; do
	does dd "bs=$bs writes" "dd if=\"\$F/k4.msgpack\" of=\"\$V/d$bs.msgpack\" bs=$bs status=none && vector d$bs" '[4.0, 0.0, 1.0]'
done
does dd "conv=notrunc writes over" 'dd if="$F/k3.msgpack" of="$V/d7.msgpack" bs=5 conv=notrunc status=none && vector d7' '[3.0, 0.0, 1.0]'
does dd "conv=sparse leaves gaps, which are zeros" 'dd if="$F/k4.msgpack" of="$V/d1.msgpack" bs=1 conv=sparse status=none && vector d1' '[4.0, 0.0, 1.0]'
does dd "seek changes a byte in place" 'printf "\011" | dd of="$V/d7.msgpack" bs=1 seek=$(($(stat -c %s "$V/d7.msgpack") - 1)) conv=notrunc status=none && grep -c "\"n\": 9" "$V/d7.json"' 1
does dd "conv=fsync writes" 'dd if="$F/k5.msgpack" of="$V/ddf.msgpack" conv=fsync status=none && vector ddf' '[5.0, 0.0, 1.0]'
does dd "oflag=append writes to a new name" 'dd if="$F/k5.msgpack" of="$V/dda.msgpack" oflag=append conv=notrunc status=none && vector dda' '[5.0, 0.0, 1.0]'
does dd "oflag=sync writes" 'dd if="$F/k5.msgpack" of="$V/dds.msgpack" oflag=sync status=none && vector dds' '[5.0, 0.0, 1.0]'
refuses dd "of half a record fails" "Invalid argument" 'dd if="$F/k5.msgpack" of="$V/ddh.msgpack" bs=1 count=20 status=none'
does dd "and leaves nothing" 'ls -A "$V" | grep -c ddh || true' 0

# sizes and times
does truncate "-s 0 leaves a record" 'truncate -s 0 "$V/k1.msgpack" && vector k1' '[1.0, 0.0, 1.0]'
refuses truncate "to another size fails" "Invalid argument" 'truncate -s 3 "$V/k1.msgpack"'
does truncate "cuts a saved question" 'printf "{}xx" >"$Q/cut.json" && truncate -s 2 "$Q/cut.json" && cat "$Q/cut.json"' '{}'
does truncate "makes a temporary file of any size" 'truncate -s 1M "$V/big.tmp" && stat -c %s "$V/big.tmp" && rm "$V/big.tmp"' 1048576
does fallocate "says that it is not here, for a temporary file" ': >"$V/f.tmp"; fallocate -l 10 "$V/f.tmp" 2>/dev/null; rm "$V/f.tmp"'
does touch "-d sets a time" 'touch -d @1000000000 "$V/k1.msgpack" && stat -c %Y "$V/k1.msgpack"' 1000000000
does touch "-r takes a time over" 'touch -r "$V/k1.msgpack" "$V/k2.msgpack" && stat -c %Y "$V/k2.msgpack"' 1000000000
does touch "of a new name makes none" 'touch "$V/none.msgpack"; ls "$V" | grep -c none || true' 0
does chmod "of a record succeeds" 'chmod 600 "$V/k1.msgpack"'
does chown "of a record succeeds" 'chown "$(id -u):$(id -g)" "$V/k1.msgpack"'

# moving
does mv "from another filesystem puts a record in" 'cp "$SEVEN" mv.json && mv mv.json "$V/mv.msgpack" && vector mv && test ! -e mv.json' '[7.0, 7.0, 7.0]'
does mv "gives a new key" 'mv "$V/mv.msgpack" "$V/moved.msgpack" && vector moved && ls "$V" | grep -c "^mv" || true' $'[7.0, 7.0, 7.0]\n0'
does mv "replaces" 'mv "$V/moved.msgpack" "$V/a.msgpack" && vector a' '[7.0, 7.0, 7.0]'
does mv "-n does not" 'mv -n "$V/a.msgpack" "$V/k1.msgpack"; vector k1' '[1.0, 0.0, 1.0]'
does mv "-b keeps the old one as a temporary file" 'cp "$V/a.msgpack" "$V/a2.msgpack" && mv -b "$V/a2.msgpack" "$V/a.msgpack" && rm "$V/a.msgpack~"'
does mv "to a plain directory takes a record out" 'mv "$V/a.msgpack" a.msgpack && test -s a.msgpack && test ! -e "$V/a.msgpack"'
does mv "to another index copies and deletes" 'O=$(new mv) && cp "$SEVEN" "$V/x.msgpack" && mv "$V/x.msgpack" "$O/vectors/" && vector x "$O" && test ! -e "$V/x.msgpack"' '[7.0, 7.0, 7.0]'
refuses mv "of a wrong file fails" "" 'cp short.json s.json && mv s.json "$V/bad.msgpack"'
does mv "and keeps it" 'test -e s.json && test ! -e "$V/bad.msgpack"'
does mv "of an index renames it" 'O=$(new old) && cp "$SEVEN" "$O/vectors/s.msgpack" && mv "$O" "$M/b/fresh" && vector s "$M/b/fresh"' '[7.0, 7.0, 7.0]'
does mv "of an index to another bucket moves it" 'mkdir "$M/b2" && mv "$M/b/fresh" "$M/b2/" && vector s "$M/b2/fresh"' '[7.0, 7.0, 7.0]'
does mv "of a bucket renames it" 'mv "$M/b2" "$M/b3" && vector s "$M/b3/fresh"' '[7.0, 7.0, 7.0]'

# rsync
does rsync "-a puts files in" 'O=$(new rsync) && rsync -a "$F/" "$O/vectors/" && diff -r "$F" "$O/vectors"'
does rsync "-a twice transfers nothing" 'rsync -ai "$F/" "$M/b/rsync/vectors/"' ""
does rsync "-a --inplace" 'touch -d 2002-01-01 "$F/k1.msgpack"; rsync -ai --inplace --size-only "$F/" "$M/b/rsync/vectors/" | cut -c1-2' '.f'
does rsync "-aI --inplace writes over" 'rsync -aI --inplace "$F/" "$M/b/rsync/vectors/" && diff -r "$F" "$M/b/rsync/vectors"'
does rsync "-aI --no-whole-file sends differences" 'rsync -aI --no-whole-file "$F/" "$M/b/rsync/vectors/" && diff -r "$F" "$M/b/rsync/vectors"'
does rsync "-aIS writes sparse" 'rsync -aIS "$F/" "$M/b/rsync/vectors/" && diff -r "$F" "$M/b/rsync/vectors"'
does rsync "-aI --append-verify" 'rsync -aI --append-verify "$F/" "$M/b/rsync/vectors/" && diff -r "$F" "$M/b/rsync/vectors"'
does rsync "-aI --temp-dir elsewhere" 'mkdir -p tmp && rsync -aI --temp-dir="$T/tmp" "$F/" "$M/b/rsync/vectors/" && diff -r "$F" "$M/b/rsync/vectors"'
does rsync "-aI --delay-updates has no directory to keep files in, and says so" \
	'rsync -aI --delay-updates "$F/" "$M/b/rsync/vectors/" 2>&1 | grep -c "Unable to create partial-dir"; diff -r "$F" "$M/b/rsync/vectors"' 5
does rsync "--delete deletes" 'mkdir few && cp -p "$F/k1.msgpack" few/ && rsync -a --delete few/ "$M/b/rsync/vectors/" && ls "$M/b/rsync/vectors"' k1.msgpack
does rsync "--remove-source-files moves out" 'rsync -a --remove-source-files "$M/b/rsync/vectors/" out/ && ls "$M/b/rsync/vectors" | wc -l && ls out' $'0\nk1.msgpack'
refuses rsync "-a of a wrong record fails" "" 'mkdir wrong && cp short.json wrong/w.msgpack && rsync -a wrong/ "$M/b/rsync/vectors/"'
does rsync "and leaves nothing" 'ls -A "$M/b/rsync/vectors" | wc -l' 0

# archives
does tar "x puts files in" 'O=$(new tar) && tar -C "$F" -cf f.tar . && tar -C "$O/vectors" -xf f.tar && diff -r "$F" "$O/vectors"'
does tar "x over what is there" 'tar -C "$M/b/tar/vectors" -xf f.tar && diff -r "$F" "$M/b/tar/vectors"'
does tar "x --overwrite" 'tar -C "$M/b/tar/vectors" --overwrite -xf f.tar && diff -r "$F" "$M/b/tar/vectors"'
does tar "x --unlink-first" 'tar -C "$M/b/tar/vectors" --unlink-first -xf f.tar && diff -r "$F" "$M/b/tar/vectors"'
does tar "x -k keeps what is there" 'tar -C "$M/b/tar/vectors" --skip-old-files -xf f.tar'
does tar "x -p keeps times" 'tar -C "$M/b/tar/vectors" -xpf f.tar && rsync -ai "$F/" "$M/b/tar/vectors/"' ""
does bsdtar "x puts files in, twice" 'O=$(new bsdtar) && bsdtar -C "$O/vectors" -xf f.tar && bsdtar -C "$O/vectors" -xf f.tar && diff -r "$F" "$O/vectors"'
does busybox:tar "x puts files in, twice" 'O=$(new btar) && busybox tar -C "$O/vectors" -xf f.tar && busybox tar -C "$O/vectors" -xof f.tar && diff -r "$F" "$O/vectors"'
does cpio "-i puts files in" 'O=$(new cpio) && (cd "$F" && ls | cpio -o --quiet) >f.cpio && cd "$O/vectors" && cpio -i --quiet <"$T/f.cpio" && diff -r "$F" .'
does cpio "-iu over what is there" 'cd "$M/b/cpio/vectors" && cpio -ium --quiet <"$T/f.cpio" && diff -r "$F" .'
does cpio "-p passes through" 'O=$(new cpiop) && cd "$F" && ls | cpio -p --quiet "$O/vectors" && diff -r "$F" "$O/vectors"'
does unzip "puts files in" 'O=$(new unzip) && (cd "$F" && zip -qr "$T/f.zip" .) && unzip -q f.zip -d "$O/vectors" && diff -r "$F" "$O/vectors"'
does unzip "-o over what is there" 'unzip -qo f.zip -d "$M/b/unzip/vectors" && diff -r "$F" "$M/b/unzip/vectors"'
does git "checkout-index puts files in" 'O=$(new git) && cp -r "$F" repo && cd repo && git init -q . && git add -A && git checkout-index -a -f --prefix="$O/vectors/" && diff -r -x .git . "$O/vectors"'

# editors
does sed "-i edits config" 'sed -i "s/^top_k = .*/top_k = 4/" "$I/config" && grep -c "^top_k = 4 " "$I/config"' 1
does sed "-i edits a record as JSON" 'sed -i "s/\"n\": 1/\"n\": 41/" "$V/k1.json" && grep -c "\"n\": 41" "$V/k1.json"' 1
does sed "-i.tmp keeps the old one as a temporary file" 'sed -i.tmp "s/\"n\": 41/\"n\": 42/" "$V/k1.json" && grep -c "\"n\": 41" "$V/k1.json.tmp" && rm "$V/k1.json.tmp"' 1
does sed "-i edits a saved question" 'sed -i "s/5/4/" "$Q/q.json" && jq -c .queryVector[0] "$Q/q.json"' 4
refuses sed "-i cannot break config" "" 'sed -i "s/^top_k = .*/top_k = x/" "$I/config"'
does sed "and leaves no litter" 'ls -A "$I" "$V" "$Q" | grep -c "^sed" || true' 0
does busybox:sed "-i edits a record as JSON" 'busybox sed -i "s/\"n\": 4/\"n\": 44/" "$V/k4.json" && grep -c "\"n\": 44" "$V/k4.json"' 1
does busybox:sed "-i edits config" 'busybox sed -i "s/^top_k = .*/top_k = 5/" "$I/config" && grep -c "^top_k = 5 " "$I/config"' 1
does perl "-i edits a record as JSON" 'perl -i -pe "s/\"n\": 42/\"n\": 43/" "$V/k1.json" && grep -c "\"n\": 43" "$V/k1.json"' 1
does vim "edits config" 'vim -es -u NONE -c "set nocp" -c "%s/^top_k = .*/top_k = 6/" -c wq "$I/config" && grep -c "^top_k = 6 " "$I/config"' 1
for copy in yes no auto; do
	does vim "with backup and backupcopy=$copy edits a record" \
		"vim -es -u NONE -c 'set nocp backup writebackup backupcopy=$copy' -c '%s/\"n\": [0-9]*/\"n\": 44/' -c wq \"\$V/k2.json\" && grep -c '\"n\": 44' \"\$V/k2.json\"; rm -f \"\$V\"/*~" 1
done
does vim "with a swap file edits a record" 'vim -es -u NONE -c "set nocp swapfile" -c "%s/\"n\": 44/\"n\": 45/" -c wq "$V/k2.json" && grep -c "\"n\": 45" "$V/k2.json"; ls -A "$V" | grep -c swp || true' $'1\n0'
does ex "edits a saved question" 'ex -s -c "%s/4/3/" -c x "$Q/q.json" && jq -c .queryVector[0] "$Q/q.json"' 3
does ed "edits a record as JSON" 'printf "%s\n" "s/\"n\": 45/\"n\": 46/" w q | ed -s "$V/k2.json" && grep -c "\"n\": 46" "$V/k2.json"' 1

# many at once
does xargs "-P8 writes from eight processes" 'seq 200 | xargs -P8 -I% sh -c "echo \"{\\\"data\\\": [%,1,1]}\" >\"\$V/x%.msgpack\"" && ls "$V" | grep -c "^x"' 200
does xargs "-P8 cp" 'ls "$F" | xargs -P8 -I% cp "$F/%" "$V/p-%" && ls "$V" | grep -c "^p-"' 5
does xargs "-P8 rm deletes" 'ls "$V" | grep "^x" | xargs -P8 -n 10 sh -c "cd \"\$V\" && rm \"\$@\"" - && ls "$V" | grep -c "^x" || true' 0
does split "--filter makes a record a line" 'for i in 1 2 3; do echo "{\"data\": [$i,2,2]}"; done | split -l 1 --filter "cat >\"\$V/\$FILE.msgpack\"" - s. && ls "$V" | grep -c "^s\." && vector s.ac' $'3\n[3.0, 2.0, 2.0]'
does csplit "makes a record a piece" 'printf "%s\n%s\n" "$one" "$one" >two && csplit -q -f "$V/cs" -b "%d.msgpack" two 2 && ls "$V" | grep -c "^cs"' 2
does curl "-o writes" 'curl -s -o "$V/curl.msgpack" "file://$SEVEN" && vector curl' '[7.0, 7.0, 7.0]'
does jq "rewrites a record through a temporary file" 'jq -c ".metadata.n = 50" "$V/k3.json" >"$V/k3.tmp" && mv "$V/k3.tmp" "$V/k3.json" && grep -c "\"n\": 50" "$V/k3.json"' 1
does rm "-r deletes an index" 'O=$(new gone) && cp "$F"/* "$O/vectors/" && rm -r "$O" && test ! -e "$O"'
does find "-delete deletes records" 'O=$(new found) && cp "$F"/* "$O/vectors/" && find "$O/vectors" -type f -delete && ls "$O/vectors" | wc -l' 0
does busybox:rm "-r deletes an index" 'O=$(new gone) && cp "$F"/* "$O/vectors/" && busybox rm -r "$O" && test ! -e "$O"'
does shred "-u writes over and deletes, or fails with a reason" 'cp "$SEVEN" "$V/shred.msgpack"; shred -u "$V/shred.msgpack" 2>err || grep -c "Invalid argument\|not permitted" err >/dev/null'
refuses ln "makes no hard link" "Operation not permitted" 'ln "$V/k1.msgpack" "$V/ln.msgpack"'
refuses ln "-s makes no symbolic link" "Operation not permitted" 'ln -s k1.msgpack "$V/ln.msgpack"'
refuses mkfifo "makes no fifo" "Operation not permitted" 'mkfifo "$V/fifo.msgpack"'
refuses mknod "makes no device" "Operation not permitted" 'mknod "$V/null.msgpack" c 1 3'
refuses mkdir "in vectors/ makes no directory" "Operation not permitted" 'mkdir "$V/dir"'

# programs
does python3 "writes as programs do" 'python3 - "$V" <<"EOF"
import os, shutil, sys, tempfile
v = sys.argv[1]
one = b"{\"data\": [1, 2, 3]}"
def there(name):
    return b"[1.0, 2.0, 3.0]" in open(os.path.join(v, name + ".json"), "rb").read()
at = lambda name: os.path.join(v, name + ".msgpack")
open(at("py1"), "wb").write(one)
assert there("py1")
with open(at("py2"), "wb", buffering=0) as f:
    for i in range(len(one)):
        f.write(one[i:i + 1])
assert there("py2")
with tempfile.NamedTemporaryFile(dir=v, prefix=".", delete=False) as f:      # as atomicwrites does
    f.write(one); f.flush(); os.fsync(f.fileno())
os.replace(f.name, at("py3"))
assert there("py3")
fd, name = tempfile.mkstemp(dir=v, suffix=".tmp")                             # as boltons does
os.write(fd, one); os.fchmod(fd, 0o644); os.close(fd); os.rename(name, at("py4"))
assert there("py4")
fd = os.open(at("py5"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.pwrite(fd, one[5:], 5); os.pwrite(fd, one[:5], 0); os.close(fd)            # backwards
assert there("py5")
fd = os.open(at("py6"), os.O_CREAT | os.O_WRONLY); os.write(fd, one); os.fsync(fd); assert there("py6"); os.close(fd)
open("plain", "wb").write(one)
for n, copy in enumerate((shutil.copyfile, shutil.copy, shutil.copy2, shutil.move)):
    copy("plain", at("pys%d" % n)); assert there("pys%d" % n)
r = open(at("py1"), "rb"); old = r.read(1)
open(at("py1"), "wb").write(b"{\"data\": [9, 9, 9]}")
assert b"[1.0" not in open(os.path.join(v, "py1.json"), "rb").read() and len(old + r.read()) > 20
try:
    with open(at("bad"), "wb") as f:
        f.write(b"{\"data\": [1]}")
    raise SystemExit("no error")
except OSError as e:
    assert e.errno == 22
EOF'
does node "writes as programs do" 'node -e "
const fs = require(\"fs\"), v = process.argv[1], one = \"{\\\"data\\\": [1,2,3]}\";
const there = n => { if (!fs.readFileSync(v + \"/\" + n + \".json\", \"utf8\").includes(\"[1.0, 2.0, 3.0]\")) throw new Error(n); };
fs.writeFileSync(v + \"/n1.msgpack\", one); there(\"n1\");
fs.writeFileSync(\"n\", one); fs.copyFileSync(\"n\", v + \"/n2.msgpack\"); there(\"n2\");
fs.writeFileSync(v + \"/.n3.tmp\", one); fs.renameSync(v + \"/.n3.tmp\", v + \"/n3.msgpack\"); there(\"n3\");
fs.createWriteStream(v + \"/n4.msgpack\").end(one).on(\"close\", () => there(\"n4\"));
try { fs.writeFileSync(v + \"/bad.msgpack\", \"{}\"); throw new Error(\"no error\"); } catch (e) { if (e.code !== \"EINVAL\") throw e; }
fs.rmSync(v + \"/n1.msgpack\");
" "$V"'
does perl "writes as programs do" 'perl -e "
use strict; my \$v = shift; my \$one = q({\"data\": [1,2,3]});
open my \$f, \">\", \"\$v/p1.msgpack\" or die; print \$f \$one; close \$f or die;
open \$f, \">\", \"\$v/p2.tmp\" or die; print \$f \$one; close \$f or die; rename \"\$v/p2.tmp\", \"\$v/p2.msgpack\" or die;
open \$f, \">\", \"\$v/bad.msgpack\" or die; print \$f q({}); !close \$f or die \"no error\";
unlink \"\$v/p1.msgpack\" or die;
" "$V" && vector p2' '[1.0, 2.0, 3.0]'
does sqlite3 "writes a file" 'sqlite3 :memory: "select writefile('"'"'$V/sql.msgpack'"'"', '"'"'{\"data\": [1,2,3]}'"'"')" >/dev/null && vector sql' '[1.0, 2.0, 3.0]'

is "no temporary file is left behind" "$(find "$M" \( -name '.*' -o -name '*.tmp' -o -name '*~' -o -name 'sed??????' \) -type f)" ""
stop
ok "vecfs check finds nothing" "$VECFS" check "$S"
finish
