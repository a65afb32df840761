package kekhelper_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
)

// A server whose operators choose the helper.
func ExampleCommand() {
	file := keyring.File{
		Name: "/etc/chat/ring",
		KEK:  kekhelper.Command{Args: []string{"chattoken-kms", "aws-kms://arn:aws:kms:us-west-2:111122223333:key/1"}, Stderr: os.Stderr},
	}
	keys, err := file.Follow(context.Background(), time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(keys.Ring().Serial())
}

// A complete helper. Its KEK is in the file that its argument names.
func ExampleServe() {
	kek := keyring.KEKFile{Name: os.Args[1]}
	if err := kekhelper.Serve(context.Background(), kek, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
