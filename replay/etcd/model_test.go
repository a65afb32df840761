package etcd

import (
	"fmt"
	"hash/maphash"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
)

// The model: two gateways and one token, on a cluster that is restored from a
// snapshot or made anew. It explores, breadth first, every order of executing,
// answering and losing requests. All decisions are those of rules.go.

// world is one state of the whole.
type world struct {
	data, snapshot data
	gateways       [2]gateway
	clock          millis

	snapshots, disasters, ticks, fresh int8
}

// data is what a cluster has.
type data struct {
	marker, counter, spent string
	own                    [2][2]pair // the two latest keys of each gateway
}

type pair struct{ name, value string }

func (d *data) get(key string) string {
	switch key {
	case markerKey:
		return d.marker
	case counterKey:
		return d.counter
	}
	for _, pairs := range d.own {
		for _, p := range pairs {
			if p.name == key {
				return p.value
			}
		}
	}
	return ""
}

type gateway struct {
	history history
	belief  belief
	value   string // of its call, if it has one
	// At most one spend and one other request are under way.
	spending  request
	asking    request
	unsettled bool // the cluster is not as believed

	calls, beats, joins, starts int8
}

type kind int8

const (
	nothing kind = iota
	spendSent
	spendDone
	beatDone
	readDone
	joinDone
)

type request struct {
	kind    kind
	belief  belief // as at sending; of a join, the one to come
	value   string
	ok      bool
	outcome outcome
	reading reading
}

// rules say what may happen in a world, how often, and which rule is left out.
// Without a rule there must be a second winner.
type rules struct {
	calls, beats, joins, starts, ticks, snapshots, anew, restores, book int8

	noMarker, noCounter, noRaise, noStart bool

	// bareRestore leaves the marker in place even if the snapshot is as new
	// as a gateway's last heartbeat.
	bareRestore bool
}

// modelToken is issued by a clock that is ahead by the skew, just late enough
// for gateways that started at modelStart.
var modelToken = token.Summary{
	TokenID: token.ID{1}, ClockSkew: time.Second,
	IssuedAt:   (modelStart + 2000).time(),
	Expiration: (modelStart + 60_000).time(),
}

const modelStart = millis(1_000_000)

func newWorld() world {
	w := world{clock: modelStart + 1000, data: data{marker: "m", counter: "r"}}
	for i := range w.gateways {
		g := &w.gateways[i]
		g.history = start(instant{modelStart, modelStart})
		g.belief = believeIn("m", gatewayKey+string(rune('A'+i)), "x", "x")
		g.belief.revocations = "r"
		w.data.own[i][0] = pair{g.belief.gateway, g.belief.value}
	}
	return w
}

func (w *world) at() instant { return instant{w.clock, w.clock} }

// next calls step with each change that may come next.
func (w *world) next(r rules, step func(name string, change func(w *world))) {
	if w.ticks < r.ticks {
		step("tick", func(w *world) { w.ticks++; w.clock += 1000 })
	}
	if w.snapshots < r.snapshots {
		step("snapshot", func(w *world) { w.snapshots++; w.snapshot = w.data })
	}
	if w.disasters < r.book && w.snapshots > 0 {
		step("restore-by-the-book", func(w *world) {
			d := w.snapshot
			d.marker = ""
			w.disaster(d, r)
		})
	}
	if w.disasters < r.restores && w.snapshots > 0 && (r.bareRestore || !w.gap()) {
		step("restore", func(w *world) { w.disaster(w.snapshot, r) })
	}
	if w.disasters < r.anew {
		step("anew", func(w *world) { w.disaster(data{}, r) })
	}
	for i := range w.gateways {
		w.nextOf(i, r, func(name string, change func(w *world, g *gateway)) {
			step(fmt.Sprint(name, i), func(w *world) { change(w, &w.gateways[i]) })
		})
	}
}

// gap reports whether the snapshot is as new as some gateway's last heartbeat.
// The documentation excludes that.
func (w *world) gap() bool {
	for i := range w.gateways {
		b := &w.gateways[i].belief
		if w.snapshot.marker == b.marker && w.snapshot.get(b.gateway) > b.atLeast() {
			return true
		}
	}
	return false
}

// disaster replaces the cluster's data. Requests that were sent and not
// executed are lost with the connections.
func (w *world) disaster(d data, r rules) {
	w.disasters++
	w.data = d
	if w.disasters == max(r.restores, r.book) {
		w.snapshot = data{} // no longer of use
	}
	for i := range w.gateways {
		if p := &w.gateways[i].spending; p.kind == spendSent {
			*p = request{}
		}
	}
}

func (w *world) nextOf(i int, r rules, step func(name string, change func(w *world, g *gateway))) {
	g := &w.gateways[i]
	switch {
	case g.spending.kind == spendSent:
		step("execute-spend", func(w *world, g *gateway) { w.spend(&g.spending, r) })
	case g.spending.kind == spendDone:
		step("answer-spend", func(w *world, g *gateway) { w.answerSpend(g) })
		step("lose-spend", func(_ *world, g *gateway) { g.spending = request{} })
	case g.unsettled:
	case g.value != "":
		step("repeat", func(_ *world, g *gateway) { g.send() })
		if g.calls < r.calls {
			step("give-up", func(_ *world, g *gateway) { g.value = "" })
		}
	// Otherwise it is the same, mirrored.
	case g.calls < r.calls && w.gateways[0].calls >= int8(min(i, 1)) &&
		g.history.ruling(modelToken, w.clock, w.at()) == nil:
		step("call", func(_ *world, g *gateway) {
			g.calls++
			g.value = string(rune('A'+i)) + string(rune('0'+g.calls))
			g.history.attempt(modelToken)
			g.send()
		})
	}
	switch {
	case g.asking.kind != nothing:
		step("answer", func(w *world, g *gateway) { w.answer(i, g, r) })
		if g.asking.kind != readDone {
			step("lose", func(_ *world, g *gateway) {
				g.asking = request{}
				g.unsettled = true
			})
		}
	case g.unsettled:
		step("read", func(w *world, g *gateway) {
			g.asking = request{kind: readDone, reading: w.read(&g.belief)}
		})
	case g.beats < r.beats && w.snapshots > 0: // without effect before
		step("beat", func(w *world, g *gateway) {
			g.beats++
			w.beat(i, g)
		})
	}
	if g.starts < r.starts && g.spending.kind == nothing && g.asking.kind == nothing {
		step("start", func(w *world, g *gateway) {
			*g = gateway{history: start(w.at()), unsettled: true, calls: g.calls, joins: g.joins, beats: g.beats, starts: g.starts + 1}
			g.belief.gateway = gatewayKey
			if r.noStart {
				g.history.mark = 0
			}
		})
	}
}

func (g *gateway) send() {
	g.spending = request{kind: spendSent, belief: g.belief, value: g.value}
}

func (w *world) read(b *belief) reading {
	return reading{w.data.marker, w.data.get(b.gateway), w.data.counter}
}

// spend makes the cluster execute a spend.
func (w *world) spend(p *request, r rules) {
	p.kind = spendDone
	p.ok = w.meets(p.belief.conditions(""), r)
	switch {
	case !p.ok:
	case w.data.spent == "":
		p.outcome.created = true
		w.data.spent = p.value
	default:
		p.outcome.value = w.data.spent
	}
}

func (w *world) meets(conditions []condition, r rules) bool {
	for _, c := range conditions {
		value := w.data.get(c.key)
		switch {
		case c.key == markerKey && r.noMarker, strings.HasPrefix(c.key, gatewayKey) && r.noCounter:
		case value == "", c.op == "=" && value != c.value, c.op == ">" && value <= c.value:
			return false
		}
	}
	return true
}

func (w *world) answerSpend(g *gateway) {
	p := g.spending
	g.spending = request{}
	if !p.ok {
		g.unsettled = true
		return
	}
	c := call{token: modelToken, value: p.value, now: w.clock, began: w.at()}
	if fresh, _ := c.judge(p.outcome, &g.history, w.at()); fresh {
		w.fresh++
	}
	if g.value == p.value {
		g.value = ""
	}
}

// beat makes it execute a heartbeat.
func (w *world) beat(i int, g *gateway) {
	b := &g.belief
	g.asking = request{kind: beatDone, reading: w.read(b)}
	for k := range w.data.own[i] {
		if own := &w.data.own[i][k]; w.data.marker == b.marker && own.name == b.gateway && own.value == b.value {
			own.value = b.next
			g.asking.ok = true
		}
	}
}

// answer gives a gateway the reply to any request but a spend.
func (w *world) answer(i int, g *gateway, r rules) {
	p := g.asking
	g.asking = request{}
	switch {
	case p.kind == joinDone && !p.ok:
		return
	case p.kind == joinDone:
		if !r.noRaise && !(r.noStart && g.belief.marker == "") {
			g.history.raise(w.at())
		}
		g.belief, g.unsettled = p.belief, false
		return
	case p.ok:
		g.belief.beaten("x")
		return
	}
	switch f := g.belief.judge(p.reading); f {
	case holds:
		g.unsettled = false
	case beats:
		g.belief.beaten("x")
	default:
		g.unsettled = true
		if g.joins < r.joins {
			w.join(i, g, p.reading, f == restored)
		}
	}
}

// join makes it execute a join, and the read of revocations with it: the model
// has none.
func (w *world) join(i int, g *gateway, found reading, replace bool) {
	g.joins++
	name := string(rune('A'+i)) + string(rune('0'+g.joins))
	b := believeIn(found.marker, gatewayKey+name, "x", "x")
	if replace {
		b.marker = "m" + name
	}
	p := request{kind: joinDone, ok: w.data.marker == found.marker}
	if p.ok {
		w.data.marker = b.marker
		w.data.own[i][g.joins%2] = pair{b.gateway, b.value}
		if w.data.counter == "" {
			w.data.counter = "r" + name
		}
		b.revocations = w.data.counter
	}
	p.belief = b
	g.asking = p
}

// explore returns the trace of a second winner, if there is one within most
// states, and how many states it saw. It keeps a hash of each.
func explore(r rules, most int) (trace string, states int) {
	type origin struct {
		from int
		name string
	}
	type reached struct {
		world world
		index int
	}
	seed := maphash.MakeSeed()
	queue, origins := []reached{{world: newWorld()}}, []origin{{}}
	seen := map[uint64]bool{maphash.Comparable(seed, queue[0].world): true}
	for len(queue) > 0 && len(origins) < most && trace == "" {
		at := queue[0]
		queue = queue[1:]
		at.world.next(r, func(name string, change func(w *world)) {
			n := at.world
			change(&n)
			hash := maphash.Comparable(seed, n)
			if seen[hash] {
				return
			}
			seen[hash] = true
			queue = append(queue, reached{n, len(origins)})
			origins = append(origins, origin{at.index, name})
			if n.fresh > 1 && trace == "" {
				for k := len(origins) - 1; k > 0; k = origins[k].from {
					trace = origins[k].name + " " + trace
				}
			}
		})
	}
	return trace, len(origins)
}

// worlds are explored to the end.
var worlds = map[string]rules{
	"anew":             {calls: 2, joins: 1, anew: 1},
	"anew, twice":      {calls: 1, joins: 2, anew: 2, ticks: 1},
	"anew, starts":     {calls: 1, joins: 2, anew: 1, starts: 1},
	"restored":         {calls: 1, beats: 1, joins: 2, snapshots: 1, restores: 1},
	"by the book":      {calls: 2, joins: 1, snapshots: 1, book: 1},
	"restored, starts": {calls: 1, beats: 1, joins: 1, starts: 1, snapshots: 1, restores: 1},
}

// larger are explored with CHATTOKEN_SOAK=1, as far as memory allows.
var larger = map[string]rules{
	"by the book": {calls: 2, beats: 1, joins: 2, snapshots: 1, book: 1},
	"both":        {calls: 1, beats: 1, joins: 2, starts: 1, ticks: 1, snapshots: 1, book: 1, restores: 1},
	"twice":       {calls: 2, beats: 1, joins: 3, ticks: 1, snapshots: 1, book: 2, anew: 2},
}

const (
	enough = 150_000   // states, for each of worlds
	plenty = 2_500_000 // for each of larger
)

func TestSoakModel(t *testing.T) {
	for name, r := range worlds {
		t.Run(name, func(t *testing.T) {
			trace, states := explore(r, enough)
			assert.Empty(t, trace)
			assert.Less(t, states, enough, "not to the end")
			t.Logf("%d states", states)
		})
	}
	if os.Getenv("CHATTOKEN_SOAK") != "1" {
		return
	}
	for name, r := range larger {
		t.Run("larger "+name, func(t *testing.T) {
			trace, states := explore(r, plenty)
			assert.Empty(t, trace)
			t.Logf("%d states", states)
		})
	}
}

// TestModelWithout checks that each rule is needed, and that the model notices.
func TestModelWithout(t *testing.T) {
	for name, leave := range map[string]func(r *rules){
		"no raise":     func(r *rules) { r.noRaise = true },
		"no start":     func(r *rules) { r.noStart = true },
		"no counter":   func(r *rules) { r.noCounter = true },
		"no marker":    func(r *rules) { r.noMarker = true },
		"bare restore": func(r *rules) { r.bareRestore = true },
	} {
		t.Run(name, func(t *testing.T) {
			var found []string
			for world, r := range worlds {
				leave(&r)
				if trace, states := explore(r, enough); trace != "" {
					found = append(found, world)
					t.Logf("%s, %d states: %s", world, states, trace)
				}
			}
			require.NotEmpty(t, found)
		})
	}
}
