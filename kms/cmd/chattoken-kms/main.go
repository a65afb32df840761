// Command chattoken-kms is a helper for chattoken: it wraps and unwraps a
// keyring's data key with a key in a key management service. Package kekhelper
// has the protocol.
//
//	chattoken keyring rotate --keyring ring --kek-command "chattoken-kms aws-kms://arn:aws:kms:…"
//
// Its only argument is the key's URI, as in package kms. Credentials are found
// as the cloud's own tools find them. The exit status is 0 for success, 1 if
// the service failed or refused, 2 for wrong usage.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
	"github.com/seed17cb2b26/chattoken/kms"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Usage: chattoken-kms URI

A helper for the flag --kek-command of chattoken. URI names the key:

  aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID
  gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY

It reads a request from standard input and writes the reply to standard output.
`

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 1 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		fmt.Fprint(stderr, usage)
		return 2
	}
	kek, err := kms.Open(ctx, args[0])
	if err == nil {
		err = kekhelper.Serve(ctx, kek, stdin, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "chattoken-kms:", err)
		return 1
	}
	return 0
}
