package ivschat

import (
	"sync"

	"golang.org/x/time/rate"
)

// In a room, disconnectBurst users may be disconnected at once, and then
// disconnectRate a second. Each is a revocation that is kept for three hours, and
// all rooms together may have replay.DefaultMaxRevocations of them. With no limit, a
// moderator of one room could use them up, and so end the sessions in all others.
const (
	disconnectRate  = 1
	disconnectBurst = 100
)

// room knows who is connected to it. It is safe for concurrent use.
//
// What it sends is sent under its lock, without waiting: everyone sees the same
// order, and a client that has been ended sends nothing more.
type room struct {
	arn         string
	disconnects *rate.Limiter

	mu      sync.Mutex
	members map[*client]struct{}
}

func newRoom(arn string) *room {
	return &room{
		arn:         arn,
		disconnects: rate.NewLimiter(disconnectRate, disconnectBurst),
		members:     map[*client]struct{}{},
	}
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

// each calls do for every member, which must not wait.
func (r *room) each(do func(*client)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.members {
		do(c)
	}
}

// broadcast sends a frame from one member to everyone. The member itself gets reply
// instead, which has the ID of its request: others might take that for the ID of a
// request of their own.
func (r *room) broadcast(from *client, frame, reply []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(from, frame, reply)
}

// disconnect tells everyone that a user is disconnected, and ends the user's
// connections. Between the two nothing is sent. The connections are ended even where the
// moderator has been meanwhile, and so nobody is told: the user's tokens are revoked.
func (r *room) disconnect(user string, from *client, frame, reply []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(from, frame, reply)
	for c := range r.members {
		if c.user == user {
			c.end(disconnected)
		}
	}
}

// send is called under the lock. It sends nothing where the sender has been ended.
func (r *room) send(from *client, frame, reply []byte) {
	if from.ended.Load() {
		return
	}
	for c := range r.members {
		if c == from {
			c.enqueue(reply)
		} else {
			c.enqueue(frame)
		}
	}
}

// newRooms makes the rooms of these ARNs.
func newRooms(arns []string) map[string]*room {
	rooms := make(map[string]*room, len(arns))
	for _, arn := range arns {
		rooms[arn] = newRoom(arn)
	}
	return rooms
}
