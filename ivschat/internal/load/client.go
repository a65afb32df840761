package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
)

func newClient(url string) *ivschat.Client {
	return ivschat.New(ivschat.Options{
		BaseEndpoint: aws.String(url),
		Region:       region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
		}),
	})
}

// mint asks for a token for each connection, as an application does.
func (s *server) mint(ctx context.Context, p plan) ([]string, error) {
	tokens := make([]string, p.connections)
	err := inParallel(len(tokens), func(i int) error {
		reply, err := s.client.CreateChatToken(ctx, &ivschat.CreateChatTokenInput{
			RoomIdentifier: aws.String(s.rooms[i%len(s.rooms)]),
			UserId:         aws.String(fmt.Sprintf("user-%d", i)),
			Capabilities:   []types.ChatTokenCapability{types.ChatTokenCapabilitySendMessage},
			Attributes:     map[string]string{"displayName": fmt.Sprintf("User %d", i)},
		})
		if err == nil {
			tokens[i] = aws.ToString(reply.Token)
		}
		return err
	})
	return tokens, err
}

// inParallel calls do with 0 to n-1, and returns all errors.
func inParallel(n int, do func(int) error) error {
	next := make(chan int)
	var workers sync.WaitGroup
	errs := make([]error, parallel)
	for w := range parallel {
		workers.Go(func() {
			for i := range next {
				errs[w] = errors.Join(errs[w], do(i))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}
