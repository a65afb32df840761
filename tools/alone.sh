#!/bin/sh
# Run a go command that changes the go.mod of one module of the tree, such as
# go mod tidy and go get. Such commands ignore go.work and would look for our
# modules elsewhere, where this version is yet to be released.
# usage: alone.sh module-directory go command...
set -eu

dir=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top/$dir"
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

cp go.mod "$tmp"
[ ! -f go.sum ] || cp go.sum "$tmp"
# The replacements of go.work, with or without the word before: path version =>
# directory.
awk 'NF > 3 && $(NF-1) == "=>" { print $(NF-3), $(NF-2), $NF }' "$top/go.work" >"$tmp/replaced"
while read -r path version to; do
	go mod edit -replace="$path@$version=$top/$to" "$tmp/go.mod"
done <"$tmp/replaced"
GOWORK=off GOFLAGS="${GOFLAGS:-} -modfile=$tmp/go.mod" "$@"
while read -r path version to; do
	go mod edit -dropreplace="$path@$version" "$tmp/go.mod"
done <"$tmp/replaced"
cp "$tmp/go.mod" .
[ ! -f "$tmp/go.sum" ] || cp "$tmp/go.sum" .
