package keyring_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/testenv"
)

// bind mounts a file at another path, as container engines do.
func bind(t *testing.T, name, at string) {
	t.Helper()
	require.NoError(t, os.WriteFile(at, nil, 0o600))
	if err := syscall.Mount(name, at, "", syscall.MS_BIND, ""); err != nil {
		testenv.Skip(t, fmt.Sprintf("nothing can be mounted: %v", err))
	}
	t.Cleanup(func() { syscall.Unmount(at, 0) })
}
