#!/bin/sh
# Builds a valkey-server from Debian's source package, once, and prints its path.
# usage: valkey.sh [directory]
#
# The binary stays in the directory, by default one below the user's cache, and
# later calls only print its path. The tests of replay/valkey read that path
# from CHATTOKEN_VALKEY_SERVER. Needs Debian, and root if something to build
# with is missing. The build takes minutes.
set -eu

# Debian 12 has no Valkey. A mirror can list what it no longer has: then the
# next suite is asked.
suites='forky trixie sid'

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/chattoken/valkey}
server=$dir/valkey-server
if "$server" --version >/dev/null 2>&1; then
	echo "$server"
	exit
fi
exec 3>&1 >&2 # only the path is for the caller

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # apt reads its files as another user

# mirror prints where this system has Debian's packages from.
mirror() {
	# shellcheck disable=SC2016 # apt-get expands it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}

needs=
for package in dpkg-dev gcc libc6-dev libssl-dev make pkg-config; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || needs="$needs $package"
done
if [ -n "$needs" ] || [ -z "$(mirror)" ]; then
	apt-get update -q
fi
if [ -n "$needs" ]; then
	# shellcheck disable=SC2086 # several words
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $needs
fi

# get is an apt-get that knows only the source packages of one suite, and leaves
# the system's lists alone.
get() {
	apt-get -q -o Dir::Etc::sourcelist="$tmp/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State="$tmp/state" -o Dir::Cache="$tmp/cache" "$@"
}

unpack() {
	mkdir -p "$tmp/state/lists/partial" "$tmp/cache/archives/partial" "$tmp/source"
	cd "$tmp/source"
	for suite in $suites; do
		echo "valkey.sh: the source package of $suite"
		echo "deb-src $(mirror) $suite main" >"$tmp/sources.list"
		get update && get source valkey && return
	done
	return 1
}

(unpack) || { echo 'valkey.sh: no suite has the source package'; exit 1; }
make -C "$tmp"/source/valkey-*/src -j "$(nproc)" BUILD_TLS=yes USE_SYSTEMD=no MALLOC=libc valkey-server >"$tmp/log" 2>&1 ||
	{ tail -n 50 "$tmp/log"; echo 'valkey.sh: it does not build'; exit 1; }
mkdir -p "$dir"
# Renamed, so that nobody finds half a program.
cp "$tmp"/source/valkey-*/src/valkey-server "$server.$$"
mv "$server.$$" "$server"
"$server" --version
echo "$server" >&3
