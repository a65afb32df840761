package ivschat

import (
	"encoding/json"
	"expvar"
	"net/http"
	"runtime/metrics"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
)

// counters are what an operator watches. Package expvar doesn't publish them,
// because it has each name only once in a process.
type counters struct {
	minted     expvar.Int
	exceptions expvar.Map // errors of the API and of join, by code

	opened  expvar.Int
	refused expvar.Map // upgrades and renewals, by gateway.Reasons
	ended   expvar.Map // connections that the server ended, by ending.word

	messages expvar.Int
	errors   expvar.Int // ERROR frames in answer to a request
}

// snapshot is the reply of ServeVars.
type snapshot struct {
	Minted     json.RawMessage `json:"minted"`
	Exceptions json.RawMessage `json:"exceptions"`
	Opened     json.RawMessage `json:"opened"`
	Refused    json.RawMessage `json:"refused"`
	Ended      json.RawMessage `json:"ended"`
	Rooms      map[string]int  `json:"rooms"` // members, by ID
	Messages   json.RawMessage `json:"messages"`
	Errors     json.RawMessage `json:"errors"`

	Gateway gateway.Stats `json:"gateway"`
	Ready   string        `json:"ready"` // "ok", or why not
	Sync    string        `json:"sync"`  // the last error of learning what other hosts revoked, or "ok"

	Memory memory    `json:"memory"`
	Ring   ringState `json:"ring"`
	Guard  any       `json:"guard,omitempty"`
	Synced time.Time `json:"synced"` // what other hosts revoked is known up to then
}

// memory is what the process uses.
type memory struct {
	Heap        uint64 `json:"heap"`   // bytes that were live at the last garbage collection
	Stacks      uint64 `json:"stacks"` // bytes
	Collections uint64 `json:"collections"`
	Goroutines  uint64 `json:"goroutines"`
}

type ringState struct {
	Serial  uint64     `json:"serial"`
	Keys    []keyState `json:"keys"`
	Refresh string     `json:"refresh"` // the last error of bringing the ring up to date, or "ok"
}

type keyState struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Activates time.Time `json:"activates,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// Stats returns the state of the server's gateway.
func (s *Server) Stats() gateway.Stats { return s.gateway.Stats() }

// Ready returns why a load balancer should send nobody here, or nil, as
// [gateway.Gateway.Ready] does.
func (s *Server) Ready(now time.Time) error { return s.gateway.Ready(now) }

// ServeVars answers any request with what an operator watches, in the JSON of
// package expvar: numbers, rooms and key IDs. They aren't secret, but they're
// none of a stranger's business. So [Server.Serve] shows them only with
// Config.Vars. Serve them at /debug/vars of another listener.
func (s *Server) ServeVars(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(map[string]any{"chattoken": s.snapshot()})
}

func raw(v expvar.Var) json.RawMessage { return json.RawMessage(v.String()) }

func (s *Server) snapshot() snapshot {
	c := &s.counters
	snap := snapshot{
		Minted: raw(&c.minted), Exceptions: raw(&c.exceptions),
		Opened: raw(&c.opened), Refused: raw(&c.refused), Ended: raw(&c.ended),
		Rooms:    map[string]int{},
		Messages: raw(&c.messages), Errors: raw(&c.errors),
		Gateway: s.gateway.Stats(), Ready: okOr(s.gateway.Ready(s.now())),
		Memory: readMemory(), Ring: s.ringState(), Synced: s.guard.Synced(),
	}
	snap.Sync, snap.Ring.Refresh = okOr(snap.Gateway.SyncError), okOr(snap.Gateway.RefreshError)
	for _, r := range s.hub.all() {
		snap.Rooms[roomID(r.arn)] = r.size()
	}
	if s.config.GuardStats != nil {
		snap.Guard = s.config.GuardStats()
	}
	return snap
}

// okOr says what an error is.
func okOr(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// readMemory doesn't stop the world, as runtime.ReadMemStats would.
func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	return memory{Heap: value(0), Stacks: value(1), Collections: value(2), Goroutines: value(3)}
}

func (s *Server) ringState() ringState {
	now := s.now()
	ring := s.keys.Ring()
	state := ringState{Serial: ring.Serial()}
	for k := range ring.Keys(now) {
		state.Keys = append(state.Keys, keyState{k.ID.String(), k.State.String(), k.Activates, k.Expires})
	}
	return state
}
