#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounting itself: the words of an fstab line, a store and a mount point in each other, signals from the first moment on.
. "${SRCDIR:-.}/tests/mount/lib.sh"

for word in defaults rw ro auto noauto nofail user nouser users owner group _netdev default_permissions async sync dirsync suid nosuid dev nodev \
	exec noexec atime noatime relatime norelatime strictatime nostrictatime diratime nodiratime lazytime nolazytime mand nomand loud silent \
	x-systemd.automount X-mount.mkdir comment=word fsname=name; do
	start -o "$word"
	ok "-o $word mounts" fusermount3 -u "$M"
done
fails "a word that nobody knows is refused" "unknown mount option 'bogus'" "$VECFS" "$S" "$M" -o rw,bogus

fails "a mount point that is not there is refused" "cannot mount on $dir/nowhere: No such file" "$VECFS" "$dir/new" "$dir/nowhere"
ok "and no store is left for it" test ! -e "$dir/new"

apart="may not lie in each other"
fails "a store is not mounted on itself" "$apart" timeout 20 "$VECFS" "$S" "$S"
mkdir "$S/.vecfs/in"
fails "nor on a directory in it" "$apart" timeout 20 "$VECFS" "$S" "$S/.vecfs/in"
rmdir "$S/.vecfs/in"
mkdir "$dir/outer"
fails "nor on a directory around it" "$apart" timeout 20 "$VECFS" "$dir/outer/store" "$dir/outer"
mkdir "$S.mounted"
ok "a name that only begins alike is another place" "$VECFS" "$S" "$S.mounted"
ok "which is unmounted" fusermount3 -u "$S.mounted"

# SIGTERM as soon as there is a word of it.
term_at_once() {
	/usr/bin/python3 - "$VECFS" "$S" "$M" "$1" <<'EOF'
import os, signal, socket, subprocess, sys
vecfs, store, mount, name = sys.argv[1:]
for i in range(20):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(name.replace("@", "\0"))
    s.settimeout(60)
    p = subprocess.Popen([vecfs, "-f", store, mount], env=dict(os.environ, NOTIFY_SOCKET=name))
    assert s.recv(100) == b"READY=1" and os.path.ismount(mount)
    p.send_signal(signal.SIGTERM)
    assert s.recv(100) == b"STOPPING=1"
    assert p.wait() == 0 and not os.path.ismount(mount)
    s.close()
    if name[0] == "/":
        os.unlink(name)
EOF
}
ok "it reports to a service manager, and SIGTERM right after that unmounts" term_at_once "$dir/notify"
ok "with a socket in the abstract namespace too" term_at_once "@$dir/notify"

start
kill -HUP "$daemon"
ok "SIGHUP does nothing" mkdir "$M/b"
exec 5<"$M/.vecfs/version"
fails "a mount in use is not unmounted by fusermount3" "busy" fusermount3 -u "$M"
kill -TERM "$daemon"
for _ in $(seq 200); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.05; done
is "SIGTERM ends it all the same" "$(grep -c " $M " /proc/mounts)" 0
exec 5<&-
start
is "and all is there" "$(ls "$M")" b
if [ "$(id -u)" -eq 0 ]; then
	exec 5<"$M/.vecfs/version"
	# What the kernel remembers of it does not make it look alive.
	stat "$M" >/dev/null
	fails "umount -f of a mount in use says so" "busy" umount -f "$M"
	for _ in $(seq 200); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.05; done
	is "and ends the daemon, which leaves no dead mount behind" "$(grep -c " $M " /proc/mounts)" 0
	exec 5<&-
	start
	is "it is mounted again" "$(ls "$M")" b
fi
kill -9 "$daemon"
for _ in $(seq 200); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.05; done
fails "a dead mount is told from others, and how it is cleared" "fusermount3 -u $M" "$VECFS" "$S" "$M"
ok "which clears it" fusermount3 -u "$M"
if command -v script >/dev/null; then
	script -qc "'$VECFS' '$S' '$M'" /dev/null >/dev/null 2>&1
	daemon=$(daemon_of "$S")
	is "a mount outlives its terminal" "$(ls "$M")" b
	ok "and ends as usual" stop
fi
# what is printed, and what is named
printed() { # on a standard output that takes nothing: the exit status
	"$@" >/dev/full 2>/dev/null && return 1
	"$@" >&- 2>/dev/null && return 1
	return 0
}
ok "a check that cannot be printed fails" printed "$VECFS" check "$S"
ok "and the version" printed "$VECFS" --version
start
mkdir -p "$M/b/named"
echo "dimension = 1" >"$M/b/named/config"
echo '{"key": "a", "data": [1]}' >"$M/b/named/insert"
fusermount3 -u "$M"
ok "an index may be named as a shell completes it" "$VECFS" dump "$S" b/named/
ok "a dump that cannot be printed fails" printed "$VECFS" dump "$S" b/named
fails "an empty name is no store" "the path of the store is empty" "$VECFS" "" "$M"
ok "the last of ro and rw holds" "$VECFS" "$S" "$M" -o ro,rw
ok "so it can be written" mkdir "$M/written"
rmdir "$M/written"
ok "and ends" fusermount3 -u "$M"
finish
