#!/bin/sh
# Set the version that is released next, in all files that name it.
# usage: version.sh version
set -eu

cd "$(dirname "$0")/.."
root=$(sed -n 's/^module //p' go.mod)
for file in go.work $(git ls-files 'go.mod' '*/go.mod' ':!tools'); do
	# A requirement or replacement of ours: a path, a space, a version.
	sed -E "s#($root(/[a-z0-9/]+)?) v[0-9][^ ]*#\\1 $1#" "$file" >"$file.new"
	mv "$file.new" "$file"
done
