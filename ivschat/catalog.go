package ivschat

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// CreateRoom makes a room only while there are fewer than maxRooms.
	// With all its tags, a room takes 20 kB.
	maxRooms = 1000

	// maxRate is the highest maximumMessageRatePerSecond of a room.
	maxRate     = 100
	defaultRate = 10
)

// roomSummary is a room as ListRooms shows it.
type roomSummary struct {
	ARN        string            `json:"arn"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	CreateTime time.Time         `json:"createTime"`
	UpdateTime time.Time         `json:"updateTime"`
	Tags       map[string]string `json:"tags"` // kept and shown, no more
}

// roomInfo is a room as the other operations show it. It is immutable.
type roomInfo struct {
	roomSummary
	MaxLength int `json:"maximumMessageLength"`        // in code points
	Rate      int `json:"maximumMessageRatePerSecond"` // of all clients together

	registered bool // in the registry, not from CreateRoom
}

func newRoomInfo(arn string, now time.Time) roomInfo {
	at := now.UTC().Truncate(time.Millisecond)
	return roomInfo{
		roomSummary: roomSummary{ARN: arn, ID: roomID(arn), CreateTime: at, UpdateTime: at, Tags: map[string]string{}},
		MaxLength:   maxContent, Rate: defaultRate,
	}
}

// changed returns the room with the changes.
func (r roomInfo) changed(c roomChanges, now time.Time) roomInfo {
	r.Name = or(c.name, r.Name)
	r.MaxLength = or(c.length, r.MaxLength)
	r.Rate = or(c.rate, r.Rate)
	if c.tags != nil {
		r.Tags = c.tags
	}
	r.UpdateTime = now.UTC().Truncate(time.Millisecond)
	return r
}

// newRoomID returns 12 random letters and digits, like the service's.
func newRoomID() string { return rand.Text()[:12] }

// catalog is the rooms and credentials at one moment. It is immutable.
type catalog struct {
	authenticator
	first string              // room of the registry: new ones are in its account and region
	rooms map[string]roomInfo // by ARN
}

// under returns the catalog with another registry. Rooms keep their settings,
// and those from CreateRoom stay.
func (c *catalog) under(r Registry, now time.Time) *catalog {
	rooms := make(map[string]roomInfo, len(r.Rooms))
	for arn, room := range c.rooms {
		if !room.registered {
			rooms[arn] = room
		}
	}
	for _, arn := range r.Rooms {
		room, ok := c.rooms[arn]
		if !ok {
			room = newRoomInfo(arn, now)
		}
		room.registered = true
		rooms[arn] = room
	}
	return &catalog{newAuthenticator(r), r.Rooms[0], rooms}
}

func (c *catalog) with(room roomInfo) *catalog {
	rooms := maps.Clone(c.rooms)
	rooms[room.ARN] = room
	return &catalog{c.authenticator, c.first, rooms}
}

func (c *catalog) without(arn string) *catalog {
	rooms := maps.Clone(c.rooms)
	delete(rooms, arn)
	return &catalog{c.authenticator, c.first, rooms}
}

// roomPage is the reply of ListRooms.
type roomPage struct {
	Rooms     []roomSummary `json:"rooms"`
	NextToken string        `json:"nextToken,omitempty"`
}

// list returns a page of the rooms, in the order of their ARNs. While others
// come and go, a room that stays is on exactly one page.
func (c *catalog) list(q roomQuery) roomPage {
	page := roomPage{Rooms: []roomSummary{}}
	for _, arn := range slices.Sorted(maps.Keys(c.rooms)) {
		room := c.rooms[arn]
		if arn <= q.after || q.handler != "" || q.name != "" && q.name != room.Name {
			continue
		}
		if len(page.Rooms) == q.results {
			page.NextToken = encodePage(page.Rooms[q.results-1].ARN)
			break
		}
		page.Rooms = append(page.Rooms, room.roomSummary)
	}
	return page
}

// directory has the current catalog. It is nil before the first change.
type directory struct {
	mu      sync.Mutex // for writers
	current atomic.Pointer[catalog]
}

func (d *directory) load() *catalog { return d.current.Load() }

// change replaces the catalog by what f returns, unless f fails.
func (d *directory) change(f func(*catalog) (*catalog, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, err := f(cmp.Or(d.load(), &catalog{}))
	if err == nil {
		d.current.Store(next)
	}
	return err
}

// settings returns a room, if it exists.
func (s *Server) settings(arn string) (roomInfo, bool) {
	room, ok := s.directory.load().rooms[arn]
	return room, ok
}
