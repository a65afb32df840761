package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed17cb2b26/chattoken/keyring"
)

const keyUsage = `Keys:
  --keyring FILE          a sealed keyring
  --kek-file FILE         the key that it is sealed under (KEK), in a file that
                          only its owner can read; if not given, the KEK itself
                          is in the environment variable CHATTOKEN_KEK
  --context TEXT          the context that the keyring was made with, if any; if
                          not given, CHATTOKEN_CONTEXT

Without --keyring, a keyring and its KEK in your configuration directory are
used, which create-chat-token makes on first use.
`

// keyFlags are the flags of every command that needs keys.
var keyFlags = map[string]arity{"keyring": one, "kek-file": one, "context": one}

// The environment variables that stand in for flags.
const (
	envKEK     = "CHATTOKEN_KEK"
	envContext = "CHATTOKEN_CONTEXT"
)

const (
	errNoKEK       = usageError("--keyring needs a KEK: give --kek-file, or set " + envKEK)
	errKEKArgument = usageError("--kek-file takes the name of a file; the KEK itself belongs into " + envKEK)
)

// ring loads the keyring that the arguments name, or else the user's own, which
// is made if it does not exist and mayMake is true.
func (p *process) ring(a *arguments, mayMake bool) (*keyring.Ring, error) {
	c := keyring.Config{Context: a.value("context", p.getenv(envContext))}
	if a.has("keyring") {
		kek, err := p.kek(a)
		if err != nil {
			return nil, err
		}
		return p.load(a.value("keyring", ""), kek, c)
	}
	if a.has("kek-file") {
		return nil, usageError("--kek-file needs --keyring")
	}
	h, err := p.home()
	if err != nil {
		return nil, err
	}
	if h.isMissing() {
		if !mayMake {
			return nil, fmt.Errorf("there is no keyring %s; create-chat-token makes it, --keyring names another", h.keyring())
		}
		if err := p.makeHome(h, c); err != nil {
			return nil, fmt.Errorf("making a keyring: %w", err)
		}
	}
	kek, err := keyring.ReadKEKFile(h.kek())
	if err != nil {
		return nil, err
	}
	return p.load(h.keyring(), kek, c)
}

// kek returns the KEK for --keyring.
func (p *process) kek(a *arguments) (*keyring.LocalKEK, error) {
	if a.has("kek-file") {
		name := a.value("kek-file", "")
		// The error for a file that does not exist would show it.
		if strings.Contains(name, "chattoken-kek1_") {
			return nil, errKEKArgument
		}
		return keyring.ReadKEKFile(name)
	}
	text := p.getenv(envKEK)
	if text == "" {
		return nil, errNoKEK
	}
	kek, err := keyring.ParseKEK(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envKEK, err)
	}
	return kek, nil
}

func (p *process) load(name string, kek keyring.KEK, c keyring.Config) (*keyring.Ring, error) {
	sealed, err := keyring.ReadFile(name)
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Load(context.Background(), kek, sealed, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ring, nil
}

// home is the directory of the user's own keyring and its KEK.
type home string

func (p *process) home() (home, error) {
	dir, err := p.configDir()
	if err != nil {
		return "", fmt.Errorf("no place for a keyring: %w; --keyring names one", err)
	}
	return home(filepath.Join(dir, "chattoken")), nil
}

func (h home) keyring() string { return filepath.Join(string(h), "keyring") }
func (h home) kek() string     { return filepath.Join(string(h), "keyring.kek") }

func (h home) isMissing() bool {
	_, err := os.Stat(h.keyring())
	return errors.Is(err, fs.ErrNotExist)
}

// makeHome makes the directory with a fresh keyring and KEK. They are made in a
// directory beside it, which is then renamed: so both appear at once, and of
// several processes that do this at the same time one succeeds, because a
// directory that is not empty is not replaced. The others use what that one made.
func (p *process) makeHome(h home, c keyring.Config) error {
	parent := filepath.Dir(string(h))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(parent, ".chattoken-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(draft)
	if err := p.fill(home(draft), c); err != nil {
		return err
	}
	err = os.Rename(draft, string(h))
	switch {
	case err == nil:
		fmt.Fprintf(p.stderr, announcement, h.keyring(), h.kek())
		return nil
	case !h.isMissing():
		return nil
	}
	return err
}

const announcement = `chattoken: made a keyring for you, and the key that it is sealed under (KEK):
  %s
  %s
Their mode, 0600, keeps out other users of this machine, and a copy or a backup
of the keyring alone is useless. But the KEK lies beside it: who can read your
files can mint tokens. A service keeps the two apart: see --keyring.
`

// fill writes a fresh keyring and KEK, of mode 0600.
func (p *process) fill(h home, c keyring.Config) error {
	kek, err := keyring.GenerateKEK()
	if err != nil {
		return err
	}
	ring, err := keyring.New(p.now(), c)
	if err != nil {
		return err
	}
	if err := kek.WriteFile(h.kek()); err != nil {
		return err
	}
	return ring.WriteFile(context.Background(), kek, h.keyring())
}
