package kms_test

import (
	"context"
	"fmt"
	"time"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/kms"
)

// A host moves from a KEK in a file to one in a service. It opens what either
// has sealed.
func ExampleOpen() {
	ctx := context.Background()
	service, err := kms.Open(ctx, "aws-kms://arn:aws:kms:us-west-2:111122223333:key/bc436485-5092-42b8-92a3-0aa8b93536dc")
	if err != nil {
		fmt.Println(err)
		return
	}
	file := keyring.File{
		Name:   "/etc/chat/ring",
		KEK:    keyring.KEKs{service, keyring.KEKFile{Name: "/etc/chat/kek"}},
		Config: keyring.Config{Context: "chat.example.com"},
	}
	keys, err := file.Follow(ctx, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(keys.Ring().Serial())
}
