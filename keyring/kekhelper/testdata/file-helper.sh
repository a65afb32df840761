#!/bin/sh
# An example of a helper, for which --kek-file is better: its KEK is a file. It
# encrypts, then authenticates. Needs openssl.
set -eu
kek=$1 id=file:$1
mac() { { cat "$kek"; { cat "$kek"; printf %s "$1"; } | openssl dgst -sha256 -binary; } | openssl dgst -sha256 -r | cut -c1-64; }
crypt() { openssl enc -aes-256-ctr -pbkdf2 -pass "file:$kek" -base64 -A "$@"; }
{ read -r version; read -r what; read -r first; } && [ "$version" = chattoken-kek-1 ]
case $what in
wrap) text=$(printf %s "$first" | openssl base64 -d -A | crypt)
	printf 'chattoken-kek-1 ok\n%s\n%s\n' "$id" "$(printf '%s %s' "$text" "$(mac "$text")" | openssl base64 -A)" ;;
unwrap) read -r text; text=$(printf %s "$text" | openssl base64 -d -A)
	[ "$first" = "$id" ] && [ "${text#* }" = "$(mac "${text% *}")" ] || { echo 'not made by this KEK' >&2; exit 1; }
	printf 'chattoken-kek-1 ok\n%s\n' "$(printf %s "${text% *}" | crypt -d | openssl base64 -A)" ;;
*) exit 1 ;;
esac
