#!/bin/sh
# Look for known vulnerabilities in modules. The database is on the network:
# where it cannot be reached nothing was checked, which is neither a failure of
# ours nor a pass.
# usage: govulncheck.sh path-of-govulncheck module-directory...
set -eu

bin=$1
shift

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir; do
	if (cd "$dir" && "$bin" ./...) >"$log" 2>&1; then
		echo "govulncheck: pass: $dir"
	elif grep -q '^govulncheck: fetching vulnerabilities: ' "$log"; then
		echo 'govulncheck: NOT RUN (database unreachable)'
		exit 0
	else
		cat "$log"
		exit 1
	fi
done
