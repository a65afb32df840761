// Command load puts a bounded load on a chat server of its own, on loopback. It
// measures how much of the CPU tokens take, how long connecting and messages
// take, and how much memory a connection takes.
//
//	go run ./internal/load [-write README.md] [-cpuprofile FILE]
//
// Clients and server share the machine. Compare only the shares and ratios from
// run to run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// plan is the load.
type plan struct {
	connections int // at a time
	rounds      int // of connecting all of them
	rooms       int
	messages    int // in each room
	every       time.Duration
	profile     string // file for the server's CPU profile, or ""
}

func main() {
	p := plan{every: 200 * time.Millisecond}
	flag.IntVar(&p.connections, "connections", 2000, "connections at a time")
	flag.IntVar(&p.rounds, "rounds", 15, "how often all of them connect")
	flag.IntVar(&p.rooms, "rooms", 20, "rooms that they are spread over")
	flag.IntVar(&p.messages, "messages", 25, "messages in each room, of which everyone in it gets one each")
	flag.StringVar(&p.profile, "cpuprofile", "", "`file` in which the server's CPU profile is kept")
	write := flag.String("write", "", "`file` in which the table is replaced")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p, *write); err != nil {
		fmt.Fprintf(os.Stderr, "load: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, write string) error {
	m, err := measure(ctx, p)
	if err != nil {
		return err
	}
	table := m.table()
	fmt.Print(table)
	if write == "" {
		return nil
	}
	return replaceTable(write, table)
}

// measurement is the result of a run.
type measurement struct {
	plan       plan
	connecting latencies
	perSecond  float64 // connections
	fanout     latencies
	memory     float64 // bytes a connection
	cpu        shares
}

func measure(ctx context.Context, p plan) (m measurement, err error) {
	m.plan = p
	s, err := startServer(ctx, p)
	if err != nil {
		return m, err
	}
	defer s.kill()
	empty, err := s.liveMemory(ctx)
	if err != nil {
		return m, err
	}
	crowd, err := m.connectInRounds(ctx, s)
	if err != nil {
		return m, err
	}
	full, err := s.liveMemory(ctx)
	if err != nil {
		return m, err
	}
	m.memory = float64(full-empty) / float64(p.connections)
	if m.fanout, err = crowd.talk(ctx, p); err != nil {
		return m, err
	}
	if err := s.stop(); err != nil {
		return m, err
	}
	crowd.wait()
	m.cpu, err = readShares(s.profile)
	return m, err
}

// connectInRounds connects all clients p.rounds times, and leaves the last ones
// connected.
func (m *measurement) connectInRounds(ctx context.Context, s *server) (c *crowd, err error) {
	var took time.Duration
	for range m.plan.rounds {
		c.leave()
		tokens, err := s.mint(ctx, m.plan)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if c, err = connect(ctx, s, tokens); err != nil {
			return nil, err
		}
		took += time.Since(began)
		m.connecting = append(m.connecting, c.connecting...)
	}
	m.perSecond = float64(len(m.connecting)) / took.Seconds()
	return c, nil
}
