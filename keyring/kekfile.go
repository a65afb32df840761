package keyring

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

const maxKEKFile = 4096

var errKEKMode = errors.New("others can read it; its mode must be 0600 or 0400")

// KEKFile is a [KEK] in a file of one line. It reads the file each time that a
// ring is sealed, loaded, or found to be new. So another KEK needs no restart.
// Errors name the file, and repeat nothing of it.
type KEKFile struct {
	Name string

	// InsecureAnyMode reads a file of any mode and owner, through any
	// links, for places where these cannot be chosen, such as fsGroup in
	// Kubernetes. Without it, on Unix, the file must belong to root or to
	// this user, the group and others must have no access, and links must
	// follow the rules of [File].
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
	read := readTrusted
	if f.InsecureAnyMode {
		read = readRegular
	}
	data, info, err := read(f.Name, maxKEKFile)
	defer clear(data)
	if err == nil && !f.InsecureAnyMode {
		err = checkAccess(info, 0o077, errKEKMode)
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

// WriteFile saves the KEK to a new file of mode 0600, and replaces none. Links
// in name must follow the rules of [File].
func (k *LocalKEK) WriteFile(name string) error {
	data := []byte(k.text() + "\n")
	defer clear(data)
	p, err := locate(name)
	if err == nil {
		err = p.create(data)
		p.close()
	}
	if err != nil {
		return fmt.Errorf("keyring: writing KEK %s: %w", name, err)
	}
	return nil
}
