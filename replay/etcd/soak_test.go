//go:build unix

package etcd_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
)

// TestSoakChaos makes everything go wrong, in any order: once, or with
// CHATTOKEN_SOAK=1 for half an hour or CHATTOKEN_SOAK_TIME.
func TestSoakChaos(t *testing.T) {
	long(t)
	t.Parallel()
	lasts := time.Duration(0)
	if os.Getenv("CHATTOKEN_SOAK") == "1" {
		lasts = 30 * time.Minute
	}
	if text := os.Getenv("CHATTOKEN_SOAK_TIME"); text != "" {
		var err error
		lasts, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	m := startMesh(t, 3)
	config := etcd.Config{Endpoints: m.Endpoints()}
	guards := []*etcd.Guard{newGuard(t, config), newGuard(t, config), newGuard(t, config)}
	tr := startTraffic(t, guards...)
	tr.progress(20)
	one := func() (int, *etcdtest.Member) {
		i := rand.IntN(len(m.Members))
		return i, m.Members[i]
	}
	moment := func() { time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond) }
	faults := map[string]func(){
		"kill": func() {
			_, member := one()
			member.Kill()
			moment()
			member.Restart()
		},
		"stop": func() {
			_, member := one()
			member.Stop()
			moment()
			member.Resume()
		},
		"isolate": func() {
			i, _ := one()
			m.isolate(i)
			moment()
			m.heal()
		},
		"divide": func() {
			m.divide()
			moment()
			m.heal()
		},
		"restart": func() {
			m.Kill()
			moment()
			m.Launch()
		},
		"anew": func() {
			m.Kill()
			m.Forget()
			m.Launch()
		},
		"restore": func() {
			path, saved := save(t, m.Cluster), time.Now()
			// Heartbeats that the snapshot lacks.
			eventually(t, func() bool {
				for _, g := range guards {
					if !g.Synced().After(saved.Add(2 * time.Second)) {
						return false
					}
				}
				return true
			})
			m.Kill()
			m.Restore(path)
			m.Launch()
		},
	}
	counts := map[string]int{}
	for end := time.Now().Add(lasts); !t.Failed() && (len(counts) == 0 || time.Now().Before(end)); {
		for name, fault := range faults { // in any order
			fault()
			counts[name]++
			tr.progress(20)
		}
	}
	tr.end()
	t.Log(counts)
}
