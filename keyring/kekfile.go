package keyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const maxKEKFile = 4096

var errKEKMode = errors.New("others can read it; its mode must be 0600 or 0400")

// KEKFile is a [KEK] in a file of one line, which is read each time that it is
// needed: when a ring is sealed, loaded, or found to be a new one. So another KEK
// takes its place without a restart. Errors name the file, and repeat nothing of
// it.
type KEKFile struct {
	Name string

	// InsecureAnyMode has the file read whatever its mode, for places where the
	// mode cannot be chosen, as with fsGroup in Kubernetes. Without it, on Unix, the
	// file must be inaccessible to the group and to others.
	InsecureAnyMode bool
}

// Read returns the KEK that is in the file now.
func (f KEKFile) Read() (*LocalKEK, error) {
	k, err := f.read()
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return k, nil
}

func (f KEKFile) read() (*LocalKEK, error) {
	data, info, err := readRegular(f.Name, maxKEKFile)
	defer clear(data)
	if err == nil && !f.InsecureAnyMode {
		err = checkPrivate(info)
	}
	var k *LocalKEK
	if err == nil {
		k, err = ParseKEK(strings.TrimSuffix(string(data), "\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("reading KEK %s: %w", f.Name, err)
	}
	return k, nil
}

// Wrap implements [KEK].
func (f KEKFile) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	k, err := f.read()
	if err != nil {
		return "", nil, err
	}
	return k.Wrap(ctx, dataKey)
}

// Unwrap implements [KEK].
func (f KEKFile) Unwrap(ctx context.Context, kekID string, wrapped []byte) (dataKey []byte, err error) {
	k, err := f.read()
	if err != nil {
		return nil, err
	}
	return k.Unwrap(ctx, kekID, wrapped)
}

// WriteFile saves the KEK to a new file of mode 0600. It does not replace a
// file.
func (k *LocalKEK) WriteFile(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keyring: writing KEK: %w", err)
	}
	data := []byte(k.text() + "\n")
	defer clear(data)
	if err := finish(f, data); err != nil {
		os.Remove(name)
		return fmt.Errorf("keyring: writing KEK: %w", err)
	}
	return syncDir(filepath.Dir(name))
}
