#!/bin/sh
# Upgrade what the modules of the tree require directly to the newest releases.
# usage: newest.sh module-directory...
set -eu

alone=$(cd "$(dirname "$0")" && pwd)/alone.sh
for dir; do
	# Ours are replaced.
	direct=$("$alone" "$dir" go list -mod=mod -m -f='{{if not (or .Main .Indirect .Replace)}}{{.Path}}@upgrade{{end}}' all)
	# shellcheck disable=SC2086 # no path has a space
	"$alone" "$dir" go get $direct
	# -e, because the tests of somebody else's package may not build any more.
	"$alone" "$dir" go mod tidy -e
done
