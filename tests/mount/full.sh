#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk: ENOSPC for the writer, nothing lost, and all is well when there is room again. Runs as root, on a small tmpfs.
. "${SRCDIR:-.}/tests/mount/lib.sh"
[ "$(id -u)" = 0 ] || skip_all "not root"
mkdir "$S" && mount -t tmpfs -o size=12m none "$S" 2>/dev/null || skip_all "cannot mount a tmpfs"
undo="umount $S"
start
I=$M/b/i
mkdir -p "$I" && echo 'dimension = 1024' >"$I/config"
python=/usr/bin/python3
"$python" - "$I" >"$dir/filled" 2>"$dir/why" <<'PY'
import errno, json, os, sys
i = 0
while True:
    body = json.dumps({"data": [float(i % 7 + j % 5 + 1) for j in range(1024)], "metadata": {"n": i}}).encode()
    try:
        fd = os.open("%s/vectors/k%05d.msgpack" % (sys.argv[1], i), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, body)
        finally:
            os.close(fd)
    except OSError as e:
        print(i, errno.errorcode[e.errno])
        break
    i += 1
PY
read -r count code <"$dir/filled"
is "a full disk says ENOSPC" "$code" ENOSPC
is "every record whose close returned 0 is there" "$(ls "$I/vectors" | wc -l)" "$count"
has "errors says it" "$(tail -n 1 "$I/errors")" ENOSPC
ok "all can be read" bash -c 'cat "$1"/vectors/*.msgpack >/dev/null' - "$I"
has "questions are answered" "$(ask '{"key": "k00000", "topK": 1, "returnDistance": true}')" '"distance"'
ok "the mount is well" ls -l "$I"
is "df says so too" "$(($(df --output=avail "$M" | tail -n 1) < 1024))" 1
ok "records can be deleted on a full disk" bash -c 'for k in "$1"/vectors/k000[0-4]*; do rm "$k" || exit; done' - "$I"
ok "and there is room for others then" cp "$I/vectors/k00100.msgpack" "$I/vectors/new.msgpack"
stop
ok "vecfs check finds nothing wrong" "$VECFS" check "$S"
start
is "nothing is lost by a remount" "$(ls "$I/vectors" | wc -l)" "$((count - 50 + 1))"
has "and questions are answered" "$(ask '{"key": "k00100", "topK": 1, "returnDistance": true}')" '"distance"'
finish
