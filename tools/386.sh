#!/bin/sh
# Tests modules as programs for 386, as far as this machine runs such programs.
# usage: 386.sh
#        386.sh directory... -- [go test flags]
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

# testall is not itself for 386: only what it starts sees the variable.
testall() {
	go run -exec 'env GOARCH=386' ./tools/testall "$@"
}

under_qemu() {
	status=0
	testall "$@" -short -skip="^($(echo "$skipped" | tr ' ' '|'))\$" -exec="'$root/tools/386.sh' -exec" || status=$?
	echo '386: this machine runs no 386 programs, so qemu-i386 ran the tests, in short form.'
	echo "386: Go programs that handle signals crash under it: $compiled were only compiled and vetted, and $skipped were left out."
	return $status
}

compile() {
	count=0
	for dir; do
		[ "$dir" != -- ] || break
		(cd "$dir" && GOARCH=386 go vet ./... && GOARCH=386 go test -c -o /dev/null ./...)
		count=$((count + $(cd "$dir" && go list ./... | wc -l)))
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
native) testall "$@" ;;
qemu) under_qemu "$@" ;;
none) compile "$@" ;;
esac
