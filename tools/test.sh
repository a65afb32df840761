#!/bin/sh
# Vet and test packages, and count what ran.
# usage: test.sh packages... [-- [go test flags]]
#
# Each argument is a list of packages, separated by spaces, for one run of go
# test. The first list is tested before anything is downloaded or built for the
# second. The last line counts tests, subtests, examples and fuzz seeds:
#
#	12 passed, 0 failed, 1 skipped
#
# It is a failure if no test ran. With CHATTOKEN_REQUIRE=1 a skip is one, too,
# unless the machine refused what the test had tried. But not behind a --, which
# marks another build or fewer tests: some do not apply there.
set -u
export LC_ALL=C
lines='
'
lists=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	lists=$lists$1$lines
	shift
done
[ -n "$lists" ] || { echo 'usage: test.sh packages... [-- [go test flags]]' >&2; exit 2; }
all=1
[ $# -eq 0 ] || { all=; shift; }

# gotestsum is for this machine, whatever the tests are for.
gotestsum=$(cd "$(dirname "$0")" && GOARCH='' GOWORK=off go tool -n gotestsum) || exit 1
log=$(mktemp -d)
trap 'rm -r "$log"' EXIT

status=0 n=0
IFS=$lines
for list in $lists; do
	n=$((n + 1))
	echo "test: $list"
	"$gotestsum" --format=pkgname-and-test-fails --format-icons=text --format-hide-empty-pkg --hide-summary=skipped,output \
		--jsonfile="$log/$n" --packages="$list" -- -count=1 -vet=all "$@" || status=1
done

# count says how many tests ended so. A quote inside of output has a backslash.
count() { cat "$log"/* | grep -c "\"Action\":\"$1\".*\"Test\":"; }
reasons() { cat "$log"/* | sed -n -E 's/.*"Output":" *[a-z0-9_]+\.go:[0-9]+: ((SKIPPED|NOT ALLOWED HERE): .*)\\n".*/\1/p'; }
passed=$(count pass) failed=$(count fail) skipped=$(count skip)

reasons | sort | uniq -c
if [ $((passed + failed + skipped)) -eq 0 ]; then
	echo 'test: no test ran'
	status=1
fi
if [ "$all" ] && [ "${CHATTOKEN_REQUIRE:-}" = 1 ]; then
	missing=$((skipped - $(reasons | grep -c '^NOT ALLOWED HERE')))
	if [ $missing -gt 0 ]; then
		echo "test: $missing skipped, but CHATTOKEN_REQUIRE=1"
		failed=$((failed + missing)) skipped=$((skipped - missing))
	fi
fi
# What did not build, or died, failed without a test to show for it.
[ $status -eq 0 ] || [ $failed -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
