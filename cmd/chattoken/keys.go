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
  --high-water FILE       where to keep the highest serial that was seen: an
                          older keyring that somebody put back is then refused.
                          The file is made where it is missing
  --insecure-any-mode     use the KEK and the --high-water file whatever their
                          mode and owner, as with fsGroup in Kubernetes
  --refuse-form-1         take no keyring of sealed form 1, which names no
                          context and may be another deployment's: see KEYS.md

Without --keyring, a keyring and its KEK in your configuration directory are
used, which create-chat-token makes on first use. CHATTOKEN_KEK is not for them.
`

// keyFlags are the flags of every command that needs keys.
var keyFlags = map[string]arity{"keyring": one, "kek-file": one, "context": one, "high-water": one, anyModeFlag: none, form1Flag: none}

const (
	anyModeFlag = "insecure-any-mode"
	form1Flag   = "refuse-form-1"
)

// The environment variables that stand in for flags.
const (
	envKEK     = "CHATTOKEN_KEK"
	envNewKEK  = "CHATTOKEN_NEW_KEK"
	envContext = "CHATTOKEN_CONTEXT"
)

// ring loads the keyring that the arguments name, or else the user's own, which
// is made if it does not exist and mayMake is true.
func (p *process) ring(a *arguments, mayMake bool) (*keyring.Ring, error) {
	f, err := p.file(a, mayMake)
	if err != nil {
		return nil, err
	}
	return load(f)
}

// file returns where that keyring is.
func (p *process) file(a *arguments, mayMake bool) (f keyring.File, err error) {
	f.Config.Context = a.value("context", p.getenv(envContext))
	f.Config.RefuseForm1 = a.has(form1Flag)
	f.HighWater = a.value("high-water", "")
	f.InsecureAnyMode = a.has(anyModeFlag)
	if a.has("keyring") {
		f.Name = a.value("keyring", "")
		f.KEK, err = p.kek(a, "kek-file", envKEK)
		return f, err
	}
	if a.has("kek-file") {
		return f, usageError("--kek-file needs --keyring")
	}
	h, err := p.home()
	if err != nil {
		return f, err
	}
	if h.isMissing() {
		if !mayMake {
			return f, fmt.Errorf("there is no keyring %s; create-chat-token makes it, --keyring names another", h.keyring())
		}
		if err := p.makeHome(h, f.Config); err != nil {
			return f, fmt.Errorf("making a keyring: %w", err)
		}
	}
	f.Name = h.keyring()
	f.KEK, err = keyring.KEKFile{Name: h.kek()}.Read()
	return f, err
}

// kek returns the KEK in the file that a flag names, or else in an environment
// variable.
func (p *process) kek(a *arguments, flag, variable string) (*keyring.LocalKEK, error) {
	if a.has(flag) {
		return keyring.KEKFile{Name: a.value(flag, ""), InsecureAnyMode: a.has(anyModeFlag)}.Read()
	}
	text := p.getenv(variable)
	if text == "" {
		return nil, fmt.Errorf("there is no KEK: give --%s, or set %s", flag, variable)
	}
	// Who sets a variable to what a file has, as Kubernetes does, has its line
	// end too.
	kek, err := keyring.ParseKEK(strings.TrimSuffix(text, "\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return kek, nil
}

// load loads the keyring in a file, and has the high-water mark follow it.
func load(f keyring.File) (*keyring.Ring, error) {
	ring, err := f.Load(context.Background())
	return ring, naming(f, err)
}

// naming returns an error of loading f that names it.
func naming(f keyring.File, err error) error {
	if named := new(fs.PathError); err == nil || errors.As(err, &named) {
		return err
	}
	return fmt.Errorf("%s: %w", f.Name, err)
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
// several processes that do this at the same time one succeeds, because nothing
// replaces a directory that is there. The others use what that one made.
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
	os.Remove(string(h)) // if it is empty; else this is refused, and so is what follows
	err = os.Rename(draft, string(h))
	switch {
	case err == nil:
		fmt.Fprintf(p.stderr, announcement, h.keyring(), h.kek())
		return nil
	case !h.isMissing():
		return nil
	}
	return fmt.Errorf("%s has no keyring in it and cannot be replaced; remove it, or use --keyring: %w", string(h), err)
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
	if err := kek.WriteFile(h.kek()); err != nil {
		return err
	}
	_, err = keyring.File{Name: h.keyring(), KEK: kek, Config: c}.Create(context.Background(), p.now())
	return err
}
