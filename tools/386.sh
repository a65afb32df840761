#!/bin/sh
# Tests packages as programs for 386, as far as this machine runs such programs.
# usage: 386.sh
#        386.sh packages... -- [go test flags]
#
# Without arguments it prints how far that is:
#
#	native  the kernel runs them
#	qemu    qemu-i386 does, from Debian's qemu-user
#	none    they are only compiled and vetted
#
# None is not a failure: no installation makes a kernel run them.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)

# A Go program crashes under qemu-i386 when it handles a signal: of a
# preemption, of a child that has ended, or of a nil pointer.
qemu='env GODEBUG=asyncpreemptoff=1 qemu-i386 -cpu max'
compiled='bench/peers/cmd cmd/chattoken ivschat/cmd/ivschat examples/conformance examples/gateway-coder examples/gateway-gorilla examples/gateway-sse examples/internal/fleettest ivschat/internal/load ivschat/ivschattest examples/programs internal/deps internal/spectest keyring/kekhelper kms replay/etcd replay/valkey tools'
skipped='TestDumpers TestFIPSOnly TestPanic TestRotators TestSaveOrder TestWriteFails TestOwnersOfAUser'

# form builds a program that does nothing, and runs it.
form() {
	tmp=$(mktemp -d)
	echo 'package main; func main() {}' >"$tmp/main.go"
	GOARCH=386 go build -o "$tmp/main" "$tmp/main.go"
	if "$tmp/main" 2>/dev/null; then
		echo native
	elif $qemu "$tmp/main" 2>/dev/null; then
		echo qemu
	else
		echo none
	fi
	rm -r "$tmp"
}

under_qemu() {
	status=0
	GOARCH=386 tools/test.sh "$@" -short -skip="^($(echo "$skipped" | tr ' ' '|'))\$" -exec="'$root/tools/386.sh' -exec" || status=$?
	echo '386: this machine runs no 386 programs, so qemu-i386 ran the tests, in short form.'
	echo "386: Go programs that handle signals crash under it: $compiled were only compiled and vetted, and $skipped were left out."
	return $status
}

compile() {
	count=0
	for list; do
		[ "$list" != -- ] || break
		# shellcheck disable=SC2086 # a list of packages
		GOARCH=386 go vet $list
		# shellcheck disable=SC2086
		GOARCH=386 go test -c -o /dev/null $list
		# shellcheck disable=SC2086
		count=$((count + $(go list $list | wc -l)))
	done
	echo "386: neither this machine nor qemu-i386 runs 386 programs, so $count packages were only compiled and vetted, and no test was run."
}

# exec_test is what go test runs each test program with, in its package's
# directory. What lies below a directory of the list is treated as that is.
exec_test() {
	for dir in $compiled; do
		case $(pwd -P)/ in "$root/$dir/"*)
			echo '386: only compiled and vetted:'
			exit
			;;
		esac
	done
	exec $qemu "$@"
}

if [ "${1:-}" = -exec ]; then
	shift
	exec_test "$@"
fi
cd "$root"
form=$(form)
[ $# -gt 0 ] || { echo "$form"; exit; }
case $form in
native) GOARCH=386 tools/test.sh "$@" ;;
qemu) under_qemu "$@" ;;
none) compile "$@" ;;
esac
