//go:build unix

package replay_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/internal/limits"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay"
)

const stallVariable = "CHATTOKEN_TEST_STALL"

// TestStalledProcess stops a process with SIGSTOP for longer than a token
// lives. Some of its goroutines have read the clock and not yet spent their
// tokens.
func TestStalledProcess(t *testing.T) {
	if os.Getenv(stallVariable) != "" {
		stalledProcess(t)
		return
	}
	if testing.Short() {
		t.Skip("takes as long as a token lives")
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStalledProcess$")
	cmd.Env = append(os.Environ(), stallVariable+"=1")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan())
	require.Equal(t, "waiting", lines.Text())

	refused := cmd.Process.Signal(syscall.SIGSTOP)
	if refused == nil {
		time.Sleep(limits.MinTTL + 2*time.Second)
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	}

	for _, want := range []string{
		"spent before the stop, at once after it: 0 accepted",
		"being opened twice when stopped: 1 accepted",
		"spent before the stop, when others had been: 0 accepted",
	} {
		require.True(t, lines.Scan())
		assert.Equal(t, want, lines.Text())
	}
	for lines.Scan() {
		// The testing package prints this at the end.
	}
	require.NoError(t, cmd.Wait())
	if refused != nil {
		testenv.NotAllowed(t, fmt.Sprintf("no process can be stopped: %v", refused))
	}
}

// stalledProcess is what the child does.
func stalledProcess(t *testing.T) {
	now := time.Now()
	g, err := newAt(now, replay.Config{Limits: keyring.Limits{MaxTTL: limits.MinTTL}, AcceptIssuedBeforeStart: true})
	require.NoError(t, err)
	const tokens = 2000 // some for every shard
	for i := range uint64(tokens) {
		requireFresh(t, g, now, tokenAt(i, now, limits.MinTTL))
	}

	// These have read the clock, and are about to spend.
	early := stalled(g, now, 0, tokens/2)
	late := stalled(g, now, 0, tokens)
	first, second := stalled(g, now, 1e9, 1e9+1), stalled(g, now, 1e9, 1e9+1)

	fmt.Println("waiting")
	for time.Since(now) < limits.MinTTL+time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("spent before the stop, at once after it:", early(), "accepted")
	fmt.Println("being opened twice when stopped:", first()+second(), "accepted")
	after := time.Now()
	for i := range uint64(tokens) {
		requireFresh(t, g, after, tokenAt(1e6+i, after, limits.MinTTL))
	}
	fmt.Println("spent before the stop, when others had been:", late(), "accepted")
}

// stalled starts a goroutine that has read the clock at now. The function that
// it returns lets the goroutine spend some tokens, and returns how many were
// accepted.
func stalled(g *replay.Guard, now time.Time, first, end uint64) func() int {
	resume, result := make(chan bool), make(chan int)
	go func() {
		<-resume
		accepted := 0
		for i := first; i < end; i++ {
			if fresh, _ := g.Spend(ctx, now, tokenAt(i, now, limits.MinTTL)); fresh {
				accepted++
			}
		}
		result <- accepted
	}()
	return func() int {
		close(resume)
		return <-result
	}
}
