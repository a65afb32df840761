#!/bin/sh
# Run every fuzz target of some modules and say how far each came.
# usage: fuzz.sh fuzztime module-directory...
#
# fuzztime is a duration, or a count of executions such as 2000x, for each target.
set -eu

time=$1
shift

log=$(mktemp) list=$(mktemp)
trap 'rm -f "$log" "$list"' EXIT

for dir; do
	(cd "$dir" && go test -list='^Fuzz' ./...) >"$log" || { cat "$log"; exit 1; }
	# go test lists the targets of a package above its ok line.
	awk -v dir="$dir" '
		/^Fuzz/ { name[n++] = $1 }
		$1 == "ok" { for (i = 0; i < n; i++) print dir, $2, name[i]; n = 0 }
	' "$log" >>"$list"
done
targets=$(wc -l <"$list")
[ "$targets" -gt 0 ] || { echo 'fuzz: no fuzz targets'; exit 1; }

while read -r dir pkg name <&3; do
	# By default go test would make what it found smaller for up to a minute
	# each time, and find little else.
	(cd "$dir" && go test -run='^$' -fuzz="^$name\$" -fuzztime="$time" -fuzzminimizetime=100x "$pkg") >"$log" 2>&1 || {
		# On a busy machine go test reports the end of the time as a failure.
		grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" || { cat "$log"; exit 1; }
	}
	# The last progress line is the total. Without one, nothing was fuzzed.
	reached=$(sed -n 's/^fuzz: .*execs: \([1-9][0-9]*\) .*new interesting: \([0-9]*\) (total: \([0-9]*\)).*/\1 executions, \2 new interesting, \3 in all/p' "$log" | tail -n 1)
	[ -n "$reached" ] || { cat "$log"; echo "fuzz: $name: no executions"; exit 1; }
	echo "fuzz: $name: $reached ($pkg, $time)"
done 3<"$list"
echo "fuzz: $targets targets"
