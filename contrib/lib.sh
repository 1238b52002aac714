# SPDX-License-Identifier: MIT
# lib.sh - what quickstart and runtests share: installing what is missing, building. Sourced, with $top set to the source tree.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		die "needs root to run: $*  (and there is no sudo)"
	fi
}

build_packages="gcc make autoconf automake libtool pkg-config libfuse3-dev fuse3 liblmdb-dev libmsgpack-dev libjansson-dev
	libinih-dev libroaring-dev libxxhash-dev"

# is_missing PACKAGE: on dpkg systems, whether it still has to be installed.
is_missing() { ! dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# install_missing PACKAGE...: with apt-get where there is one, else says which are needed.
install_missing() {
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "This system has no apt-get. Make sure that the equivalents of these Debian packages are installed:"
		echo "  $*"
		return 0
	fi
	missing=
	for package in "$@"; do
		if is_missing "$package"; then missing="$missing $package"; fi
	done
	if [ -z "$missing" ]; then
		echo "everything needed is installed"
		return 0
	fi
	echo "installing:$missing"
	as_root apt-get update -q
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
}

# build_in DIRECTORY CONFIGURE-ARGUMENT...: configures (once) and builds there.
build_in() {
	build=$1
	shift
	mkdir -p "$build"
	[ -x "$top/configure" ] || "$top/autogen.sh"
	[ -f "$build/Makefile" ] || (cd "$build" && "$top/configure" --quiet "$@")
	make -C "$build" --no-print-directory -j "$(nproc)"
}
