package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
)

const keyUsage = `Keys:
  --keyring FILE          a sealed keyring
  --kek-file FILE         the key that seals it (KEK), in a file that only its
                          owner can read
  --kek-command "COMMAND ARGUMENT ..."
                          a program that has the KEK, perhaps in a key
                          management service: see package kekhelper. Words only,
                          without quotes or variables. Without it and
                          --kek-file, the environment variable CHATTOKEN_KEK has
                          the KEK
  --context TEXT          the context that the keyring was made with. If not
                          given, CHATTOKEN_CONTEXT, or none
  --high-water FILE       keep the highest serial in this file, and refuse an
                          older keyring that somebody put back. A missing file
                          is made
  --insecure-any-mode     use a KEK and a --high-water file of any mode and
                          owner, as Kubernetes makes them with fsGroup
  --refuse-form-1         refuse a keyring of sealed form 1. It names no context
                          and may be another deployment's: see KEYS.md

Without --keyring, the keyring and the KEK in your configuration directory are
used. create-chat-token makes them. CHATTOKEN_KEK is not for them.
`

// keyFlags are the flags of every command that needs keys.
var keyFlags = map[string]arity{
	"keyring": one, kekFlags.file: one, kekFlags.command: one, "context": one, "high-water": one,
	anyModeFlag: none, form1Flag: none,
}

// kekSource is the flags and the environment variable that a KEK may come from.
type kekSource struct{ file, command, variable string }

var (
	kekFlags    = kekSource{"kek-file", "kek-command", "CHATTOKEN_KEK"}
	newKEKFlags = kekSource{"new-kek-file", "new-kek-command", "CHATTOKEN_NEW_KEK"}
)

const (
	anyModeFlag = "insecure-any-mode"
	form1Flag   = "refuse-form-1"
)

// envContext is the environment variable for a missing --context.
const envContext = "CHATTOKEN_CONTEXT"

// ring loads the keyring that the arguments name, or the user's own. If mayMake
// is true, it makes a missing keyring of the user's.
func (p *process) ring(a *arguments, mayMake bool) (*keyring.Ring, error) {
	f, err := p.file(a, mayMake)
	if err != nil {
		return nil, err
	}
	return load(f)
}

// file returns the file of that keyring, and how to read it.
func (p *process) file(a *arguments, mayMake bool) (f keyring.File, err error) {
	f.Config.Context = a.value("context", os.Getenv(envContext))
	f.Config.RefuseForm1 = a.has(form1Flag)
	f.HighWater = a.value("high-water", "")
	f.InsecureAnyMode = a.has(anyModeFlag)
	if a.has("keyring") {
		f.Name = a.value("keyring", "")
		f.KEK, err = p.kek(a, kekFlags)
		return f, err
	}
	for _, flag := range []string{kekFlags.file, kekFlags.command} {
		if a.has(flag) {
			return f, usageError("--" + flag + " needs --keyring")
		}
	}
	h, err := ownHome()
	if err != nil {
		return f, err
	}
	if h.isMissing() {
		if !mayMake {
			return f, fmt.Errorf("there is no keyring %s; make it with create-chat-token, or name another with --keyring", h.keyring())
		}
		if err := p.makeHome(h, f.Config); err != nil {
			return f, fmt.Errorf("making a keyring: %w", err)
		}
	}
	f.Name = h.keyring()
	f.KEK, err = keyring.KEKFile{Name: h.kek()}.Read()
	return f, err
}

// kek returns the KEK from s.
func (p *process) kek(a *arguments, s kekSource) (keyring.KEK, error) {
	switch {
	case a.has(s.file) && a.has(s.command):
		return nil, usageError("--" + s.file + " and --" + s.command + " are two KEKs")
	case a.has(s.file):
		return keyring.KEKFile{Name: a.value(s.file, ""), InsecureAnyMode: a.has(anyModeFlag)}.Read()
	case a.has(s.command):
		words := strings.Fields(a.value(s.command, ""))
		if len(words) == 0 {
			return nil, usageError("--" + s.command + " needs the name of a program")
		}
		return kekhelper.Command{Args: words, Env: helperEnviron(), Stderr: p.stderr}, nil
	}
	text := os.Getenv(s.variable)
	if text == "" {
		return nil, fmt.Errorf("there is no KEK: give --%s, --%s or the variable %s", s.file, s.command, s.variable)
	}
	// Kubernetes sets a variable to a whole file, with the end of its line.
	kek, err := keyring.ParseKEK(strings.TrimSuffix(text, "\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.variable, err)
	}
	return kek, nil
}

// helperEnviron returns the environment without KEKs, which a helper doesn't
// need.
func helperEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, kekFlags.variable+"=") || strings.HasPrefix(s, newKEKFlags.variable+"=")
	})
}

// load loads the keyring in a file, and raises the high-water mark to it.
func load(f keyring.File) (*keyring.Ring, error) {
	ring, err := f.Load(context.Background())
	return ring, naming(f, err)
}

// naming returns err, an error of loading f, with the name of the file.
func naming(f keyring.File, err error) error {
	if named := new(fs.PathError); err == nil || errors.As(err, &named) {
		return err
	}
	return fmt.Errorf("%s: %w", f.Name, err)
}

// home is the directory of the user's own keyring and KEK.
type home string

func ownHome() (home, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for a keyring: %w; name one with --keyring", err)
	}
	return home(filepath.Join(dir, "chattoken")), nil
}

func (h home) keyring() string { return filepath.Join(string(h), "keyring") }
func (h home) kek() string     { return filepath.Join(string(h), "keyring.kek") }

func (h home) isMissing() bool {
	_, err := os.Stat(h.keyring())
	return errors.Is(err, fs.ErrNotExist)
}

// makeHome makes the directory, with a new keyring and KEK. It makes them in a
// directory beside it, and renames that, so that both appear at once. A rename
// can't replace a directory that has files. So of several processes one
// succeeds, and the others use what it made.
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
	os.Remove(string(h)) // only if it is empty; otherwise the rename fails, too
	err = os.Rename(draft, string(h))
	switch {
	case err == nil:
		fmt.Fprintf(p.stderr, announcement, h.keyring(), h.kek())
		return nil
	case !h.isMissing():
		return nil
	}
	return fmt.Errorf("%s has no keyring and can't be replaced; remove it, or use --keyring: %w", string(h), err)
}

const announcement = `chattoken: made a keyring for you, and the key that seals it (KEK):
  %s
  %s
Other users of this machine can't read them: their mode is 0600. A copy of the
keyring alone is useless. But the KEK is beside it, so whoever can read your
files can mint tokens. A service keeps the two apart: see --keyring.
`

// fill writes a new keyring and KEK, of mode 0600.
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
