package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ivschat"
)

// parallel is how many requests or handshakes are under way at a time.
const parallel = 64

// server is an ivschat in a process of its own, with a CPU profile.
type server struct {
	dir     string
	profile string
	address string // host and port
	numbers string // the URL of /debug/vars
	rooms   []string
	process *exec.Cmd
	client  *ivschat.Client
}

// startServer builds ivschat and starts it on free ports. End it with kill.
func startServer(ctx context.Context, p plan) (*server, error) {
	dir, err := os.MkdirTemp("", "ivschat-load-*")
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
	binary := filepath.Join(s.dir, "ivschat")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary,
		"github.com/seed17cb2b26/chattoken/ivschat/cmd/ivschat")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the server: %w\n%s", err, out)
	}
	config, err := s.writeConfig(p.rooms)
	if err != nil {
		return err
	}
	s.process = exec.CommandContext(ctx, binary, "-listen", "127.0.0.1:0", "-debug", "127.0.0.1:0",
		"-config", config, "-cpuprofile", s.profile, "-message-rate", "1000", "-join")
	// With GOGC=off it would never collect garbage.
	s.process.Env = append(os.Environ(), "GOGC=100")
	s.process.Stderr = os.Stderr
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscanf(stdout, "ivschat: listening on http://%s\nivschat: numbers at %s\n", &s.address, &s.numbers); err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	s.client = newClient("http://" + s.address)
	return nil
}

// The server's one credential. The server is on loopback for a few seconds.
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

// stop ends the server, and with it the profile.
func (s *server) stop() error {
	if err := s.process.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	timer := time.AfterFunc(time.Minute, func() { s.process.Process.Kill() })
	defer timer.Stop()
	return s.process.Wait()
}

// kill removes the rest of the server, however the run went.
func (s *server) kill() {
	if s.process != nil && s.process.Process != nil {
		s.process.Process.Kill()
		s.process.Wait()
	}
	os.RemoveAll(s.dir)
}
