package ivschat

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/time/rate"
)

// In a room, moderators may disconnect disconnectBurst users at once, and then
// disconnectRate a second. Each is a revocation that the guard keeps for three
// hours, and it keeps replay.DefaultMaxRevocations in all. Without a limit, a
// moderator of one room could use them up, and so end the sessions in all
// others.
const (
	disconnectRate  = 1
	disconnectBurst = 100
)

// hub has the rooms. The zero value is ready for use.
type hub struct {
	mu    sync.Mutex
	rooms map[string]*room // by ARN
}

// room returns a room. It makes one if nobody was in it before.
func (h *hub) room(arn string) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.get(arn)
}

func (h *hub) get(arn string) *room {
	r := h.rooms[arn]
	if r == nil {
		r = newRoom(arn)
		if h.rooms == nil {
			h.rooms = map[string]*room{}
		}
		h.rooms[arn] = r
	}
	return r
}

// join takes a client into the room.
func (h *hub) join(arn string, c *client) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.get(arn)
	r.join(c)
	return r
}

// forget forgets a deleted room once nobody is in it.
func (h *hub) forget(arn string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[arn]; r != nil && r.size() == 0 {
		delete(h.rooms, arn)
	}
}

func (h *hub) all() []*room {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.rooms))
}

// each calls do for every client in every room. do must not block.
func (h *hub) each(do func(*client)) {
	for _, r := range h.all() {
		r.each(do)
	}
}

// room knows who is connected to it. It is safe for concurrent use.
//
// It sends under its lock, without blocking. So everyone sees the same order,
// and an ended client sends nothing more.
type room struct {
	arn         string
	disconnects *rate.Limiter

	mu       sync.Mutex
	messages *rate.Limiter // from all clients together
	members  map[*client]struct{}
	leaving  map[string]int // calls of disconnect under way, by user
}

func newRoom(arn string) *room {
	return &room{
		arn:         arn,
		disconnects: rate.NewLimiter(disconnectRate, disconnectBurst),
		messages:    rate.NewLimiter(0, 0),
		members:     map[*client]struct{}{},
		leaving:     map[string]int{},
	}
}

// takes reports whether the room takes another message at that rate.
func (r *room) takes(perSecond int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.messages.Burst() != perSecond {
		r.messages = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return r.messages.Allow()
}

func (r *room) join(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[c] = struct{}{}
}

func (r *room) leave(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, c)
}

func (r *room) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.members)
}

func (r *room) all() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.members))
}

// each calls do for every member. do must not block.
func (r *room) each(do func(*client)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.members {
		do(c)
	}
}

// broadcast sends a frame to everyone, unless it comes from a member who has
// ended. from may be nil.
func (r *room) broadcast(from *client, frame []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(from, frame)
}

func (r *room) send(from *client, frame []byte) {
	if from != nil && from.ended.Load() {
		return
	}
	for c := range r.members {
		c.enqueue(frame)
	}
}

// disconnect calls revoke, which has the gateway end a user's participants, and
// sends the frame that revoke returns. The user's connections end right after
// that frame: they get it, and nobody sees a message of theirs after it. If
// from has ended meanwhile, they still end, but nobody gets the frame.
func (r *room) disconnect(user string, from *client, revoke func() []byte) {
	r.hold(user)
	var frame []byte
	defer func() { r.release(user, from, frame) }()
	frame = revoke()
}

// hold delays the ends of a user's connections until release.
func (r *room) hold(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving[user]++
}

func (r *room) release(user string, from *client, frame []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if frame != nil {
		r.send(from, frame)
	}
	for c := range r.members {
		if c.user == user && c.cause != nil {
			c.end(endingOf(c.cause))
		}
	}
	if r.leaving[user]--; r.leaving[user] == 0 {
		delete(r.leaving, user)
	}
}

// stayEnded is called when the gateway has ended the participant. The
// connection ends now, or, during disconnect, after the room got the frame.
func (c *client) stayEnded(cause error) {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	c.cause = cause
	if r.leaving[c.user] == 0 {
		c.end(endingOf(cause))
	}
}
