package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
)

// parallel is how many requests or handshakes are under way at a time.
const parallel = 64

// server is a chatserver in a process of its own, with a profile of its CPU.
type server struct {
	dir     string
	profile string
	address string // host and port
	numbers string // the URL of /debug/vars
	rooms   []string
	process *exec.Cmd
	client  *ivschat.Client
}

// startServer builds chatserver and starts it on a free port.
func startServer(ctx context.Context, p plan) (*server, error) {
	dir, err := os.MkdirTemp("", "chatserver-load-*")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, profile: cmp.Or(p.profile, filepath.Join(dir, "cpu"))}
	if err := s.start(ctx, p); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

func (s *server) start(ctx context.Context, p plan) error {
	binary := filepath.Join(s.dir, "chatserver")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary,
		"github.com/seed17cb2b26/chattoken/examples/chatserver")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the server: %w\n%s", err, out)
	}
	config, err := s.writeConfig(p.rooms)
	if err != nil {
		return err
	}
	s.process = exec.CommandContext(ctx, binary, "-listen", "127.0.0.1:0", "-debug", "127.0.0.1:0",
		"-config", config, "-cpuprofile", s.profile, "-message-rate", "1000", "-join")
	s.process.Stderr = os.Stderr
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscanf(stdout, "chatserver: listening on http://%s\nchatserver: numbers at %s\n", &s.address, &s.numbers); err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	s.client = newClient("http://" + s.address)
	return nil
}

// The one credential of the server, which is on loopback for a few seconds.
const (
	region    = "us-west-2"
	accessKey = "AKIDLOAD"
	secretKey = "load"
)

func (s *server) writeConfig(rooms int) (name string, err error) {
	for i := range rooms {
		s.rooms = append(s.rooms, fmt.Sprintf("arn:aws:ivschat:%s:123456789012:room/load%d", region, i))
	}
	data, err := json.Marshal(map[string]any{
		"region": region, "rooms": s.rooms,
		"credentials": []map[string]string{{"accessKeyId": accessKey, "secretAccessKey": secretKey}},
	})
	if err != nil {
		return "", err
	}
	name = filepath.Join(s.dir, "config.json")
	return name, os.WriteFile(name, data, 0o600)
}

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

// liveMemory returns the bytes of heap and stacks in use, just after a garbage
// collection.
func (s *server) liveMemory(ctx context.Context) (int64, error) {
	first, err := s.vars(ctx)
	if err != nil {
		return 0, err
	}
	for v := first; ; {
		// Twice, so that what was freed in the meantime is not counted.
		if v.Memory.Collections >= first.Memory.Collections+2 {
			return v.Memory.Heap + v.Memory.Stacks, nil
		}
		if err := s.makeGarbage(ctx); err != nil {
			return 0, err
		}
		if v, err = s.vars(ctx); err != nil {
			return 0, err
		}
	}
}

// makeGarbage has the server read bodies that it then refuses, because it
// collects garbage when there is some.
func (s *server) makeGarbage(ctx context.Context) error {
	return inParallel(parallel, func(int) error {
		return s.do(ctx, http.MethodPost, "http://"+s.address+"/join", strings.NewReader(strings.Repeat(" ", 60<<10)), nil)
	})
}

// vars is what the load needs of /debug/vars.
type vars struct {
	Memory struct{ Heap, Stacks, Collections int64 }
}

func (s *server) vars(ctx context.Context) (vars, error) {
	var reply struct{ Chattoken vars }
	err := s.do(ctx, http.MethodGet, s.numbers, nil, &reply)
	return reply.Chattoken, err
}

// do sends a request and reads the reply as JSON into v, if there is one.
func (s *server) do(ctx context.Context, method, url string, body io.Reader, v any) error {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// stop ends the server as a service manager does, and with it the profile.
func (s *server) stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(time.Minute, func() { s.process.Process.Kill() })
	defer timer.Stop()
	return s.process.Wait()
}

// kill removes what is left of the server, however the run went.
func (s *server) kill() {
	if s.process != nil && s.process.Process != nil {
		s.process.Process.Kill()
		s.process.Wait()
	}
	os.RemoveAll(s.dir)
}
