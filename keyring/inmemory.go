package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

var errShared = errors.New("keyring: a ring that was loaded, marshalled or saved is not in memory only: rotating it would make keys that no other host has")

// InMemory is the keys of a process that shares them with nobody. It has the
// methods of a [Follower], but its Refresh rotates. [NewInMemory] makes it. It
// is safe for concurrent use.
type InMemory struct{ ring *Ring }

// NewInMemory returns the keys of r, which [New] made. If r was loaded,
// marshalled or saved, it returns an error: other hosts may have its keys, too.
func NewInMemory(r *Ring) (*InMemory, error) {
	k := &InMemory{r}
	if r.load() == &noKeys {
		return nil, errNoKeys
	}
	if k.shared() {
		return nil, errShared
	}
	return k, nil
}

func (k *InMemory) shared() bool {
	k.ring.mu.Lock()
	defer k.ring.mu.Unlock()
	return k.ring.known != 0
}

// String returns what the ring's String does.
func (k *InMemory) String() string { return k.ring.String() }

// Format writes what String returns, whatever the verb.
func (k *InMemory) Format(f fmt.State, verb rune) { k.ring.Format(f, verb) }

// LogValue returns what the ring's LogValue does.
func (k *InMemory) LogValue() slog.Value { return k.ring.LogValue() }

// Ring returns the ring.
func (k *InMemory) Ring() *Ring { return k.ring }

// Refresh rotates the ring, as [Ring.Rotate] does. ctx is not used.
func (k *InMemory) Refresh(_ context.Context, now time.Time) (changed bool, err error) {
	if k.shared() {
		return false, errShared
	}
	return k.ring.Rotate(now)
}

// Health returns nil, or an error: the next key is overdue because nobody
// called Refresh, or the next rotation is far ahead because the clock was. No
// token has been refused for that yet.
func (k *InMemory) Health(now time.Time) error { return k.ring.health(now) }
