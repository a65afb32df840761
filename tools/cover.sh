#!/bin/sh
# Print the statement coverage of packages by their own tests and fail where it
# is below a minimum.
# usage: cover.sh percent package...
set -eu

min=$1
shift
[ $# -gt 0 ] || { echo 'cover: no packages'; exit 1; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -count=1 -cover "$@" >"$log" || { cat "$log"; exit 1; }

# A package without a line of its own is a failure: nothing was measured.
awk -v min="$min" -v want=$# '
match($0, /coverage: [0-9.]+%/) {
	percent = substr($0, RSTART + 10, RLENGTH - 11) + 0
	pkg = $1 == "ok" ? $2 : $1
	printf "coverage: %.1f %% of %s\n", percent, pkg
	if (percent < min) low++
	seen++
}
END {
	if (low || seen < want) {
		printf "coverage: %d of %d packages have at least %s %%\n", seen - low, want, min
		exit 1
	}
}' "$log"
