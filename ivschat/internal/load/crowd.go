package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// latencies are durations of one kind.
type latencies []time.Duration

// quantile returns the duration that a share q of them doesn't exceed.
func (l latencies) quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return sorted[int(q*float64(len(sorted)-1))]
}

// crowd is the clients. Client i is in room i modulo the number of rooms.
type crowd struct {
	conns      []*websocket.Conn
	connecting latencies

	reading  sync.WaitGroup
	mu       sync.Mutex
	received latencies
	arrived  chan struct{} // one for each message that arrived
}

// connect connects with each token.
func connect(ctx context.Context, s *server, tokens []string) (*crowd, error) {
	c := &crowd{
		conns:      make([]*websocket.Conn, len(tokens)),
		connecting: make(latencies, len(tokens)),
		arrived:    make(chan struct{}, 1<<16),
	}
	err := inParallel(len(tokens), func(i int) error {
		began := time.Now()
		conn, _, err := websocket.Dial(ctx, "ws://"+s.address+"/", &websocket.DialOptions{Subprotocols: []string{tokens[i]}})
		if err != nil {
			return err
		}
		c.connecting[i] = time.Since(began)
		c.conns[i] = conn
		c.reading.Go(func() { c.read(conn) })
		return nil
	})
	if err != nil {
		c.leave()
	}
	return c, err
}

// leave closes all connections.
func (c *crowd) leave() {
	if c == nil {
		return
	}
	for _, conn := range c.conns {
		if conn != nil {
			conn.CloseNow()
		}
	}
	c.reading.Wait()
}

// wait waits until the server has closed all connections.
func (c *crowd) wait() { c.reading.Wait() }

// read notes how long each message took. Each carries its time of sending, by
// this process's clock.
func (c *crowd) read(conn *websocket.Conn) {
	for {
		_, data, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		now := time.Now()
		var m struct{ Type, Content string }
		if json.Unmarshal(data, &m) != nil || m.Type != "MESSAGE" {
			continue
		}
		sent, err := strconv.ParseInt(m.Content, 10, 64)
		if err != nil {
			continue
		}
		c.mu.Lock()
		c.received = append(c.received, now.Sub(time.Unix(0, sent)))
		c.mu.Unlock()
		c.arrived <- struct{}{}
	}
}

// talk has one client in each room send messages, and returns how long each
// took to each receiver. It fails if one is missing.
func (c *crowd) talk(ctx context.Context, p plan) (latencies, error) {
	go c.speak(ctx, p)
	deadline := time.After(2*time.Minute + time.Duration(p.messages)*p.every)
	for n := range p.messages * p.connections {
		select {
		case <-c.arrived:
		case <-deadline:
			return nil, fmt.Errorf("%d of %d messages arrived", n, p.messages*p.connections)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received, nil
}

// speak sends the messages of all rooms, spread evenly over time.
func (c *crowd) speak(ctx context.Context, p plan) {
	tick := time.NewTicker(p.every / time.Duration(p.rooms))
	defer tick.Stop()
	for i := range p.messages * p.rooms {
		<-tick.C
		message := fmt.Appendf(nil, `{"Action":"SEND_MESSAGE","Content":"%d"}`, time.Now().UnixNano())
		if c.conns[i%p.rooms].Write(ctx, websocket.MessageText, message) != nil {
			return // talk misses it
		}
	}
}
