//go:build unix

package etcd_test

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

// raceEnv makes the test program one of the racing processes.
const raceEnv = "CHATTOKEN_ETCD_RACE"

func TestMain(m *testing.M) {
	if job := os.Getenv(raceEnv); job != "" {
		race(job)
		return
	}
	manyParallel()
	os.Exit(m.Run())
}

// manyParallel runs eight parallel tests at a time, unless -parallel says
// otherwise: they mostly wait.
func manyParallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // no such flag outside tests
	}
}

// raced returns the n-th token of a race.
func raced(begin int64, n int) token.Summary {
	s := token.Summary{IssuedAt: time.Unix(begin, 0), Expiration: time.Unix(begin+590, 0)}
	binary.BigEndian.PutUint64(s.TokenID[:], uint64(begin))
	binary.BigEndian.PutUint64(s.TokenID[8:], uint64(n))
	return s
}

// race spends all tokens of a race, and prints the numbers of the fresh ones.
func race(job string) {
	var endpoint string
	var begin int64
	var tokens int
	if _, err := fmt.Sscan(job, &endpoint, &begin, &tokens); err != nil {
		panic(err)
	}
	g, err := etcd.New(ctx, etcd.Config{Endpoints: strings.Split(endpoint, ",")})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	time.Sleep(time.Until(time.Unix(begin, 0)))
	var mu sync.Mutex
	var wg sync.WaitGroup
	const callers = 64
	for w := range callers {
		wg.Go(func() {
			for n := w; n < tokens; n += callers {
				got := spend(g, raced(begin, n))
				if got == "spent" {
					continue
				}
				mu.Lock()
				fmt.Println(got, n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestSoakProcesses lets eight processes race for the same tokens on three
// members: for 100,000 with CHATTOKEN_SOAK=1.
func TestSoakProcesses(t *testing.T) {
	long(t)
	t.Parallel()
	tokens := 4000
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		tokens = 100_000
	}
	c := etcdtest.Start(t, 3)
	job := fmt.Sprint(strings.Join(c.Endpoints(), ","), " ", time.Now().Add(10*time.Second).Unix(), " ", tokens)
	winners := make([]int, tokens)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), raceEnv+"="+job)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		wg.Go(func() {
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				word, number, _ := strings.Cut(lines.Text(), " ")
				n, err := strconv.Atoi(number)
				if !assert.Equal(t, "fresh", word, lines.Text()) || !assert.NoError(t, err) {
					continue
				}
				mu.Lock()
				winners[n]++
				mu.Unlock()
			}
			assert.NoError(t, cmd.Wait())
		})
	}
	wg.Wait()
	for n, count := range winners {
		require.Equal(t, 1, count, n)
	}
}
