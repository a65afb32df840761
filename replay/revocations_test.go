package replay_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/replay"
)

const skew = 5 * time.Second // the default

// chat is a token of a user in a room, issued at a moment.
func chat(room, user string, issued time.Time) claims.Summary {
	return claims.Summary{
		IssuedAt:       issued.Truncate(time.Second),
		Expiration:     issued.Truncate(time.Second).Add(time.Minute),
		RoomIdentifier: []byte(room),
		UserID:         []byte(user),
	}
}

func TestRevocationTargets(t *testing.T) {
	revoke := []struct {
		name string
		do   func(r *replay.Revocations)
		hits func(room, user string) bool
		err  error
	}{
		{"none", func(*replay.Revocations) {}, func(string, string) bool { return false }, nil},
		{"user ab", func(r *replay.Revocations) { r.RevokeUser(epoch, "ab", epoch) },
			func(_, user string) bool { return user == "ab" }, replay.ErrRevoked},
		{"room ab", func(r *replay.Revocations) { r.RevokeRoom(epoch, "ab", epoch) },
			func(room, _ string) bool { return room == "ab" }, replay.ErrRevoked},
		{"user c in room ab", func(r *replay.Revocations) { r.RevokeUserInRoom(epoch, "ab", "c", epoch) },
			func(room, user string) bool { return room == "ab" && user == "c" }, replay.ErrRevoked},
		{"user ab in room ab", func(r *replay.Revocations) { r.RevokeUserInRoom(epoch, "ab", "ab", epoch) },
			func(room, user string) bool { return room == "ab" && user == "ab" }, replay.ErrRevoked},
		{"user without name", func(r *replay.Revocations) { r.RevokeUser(epoch, "", epoch) },
			func(_, user string) bool { return user == "" }, replay.ErrRevoked},
		{"room without name", func(r *replay.Revocations) { r.RevokeRoom(epoch, "", epoch) },
			func(room, _ string) bool { return room == "" }, replay.ErrRevoked},
		{"user c in room without name", func(r *replay.Revocations) { r.RevokeUserInRoom(epoch, "", "c", epoch) },
			func(room, user string) bool { return room == "" && user == "c" }, replay.ErrRevoked},
		{"all", func(r *replay.Revocations) { r.RevokeAll(epoch) }, func(string, string) bool { return true }, replay.ErrAllRevoked},
		{"all, and user ab later", func(r *replay.Revocations) {
			r.RevokeAll(epoch.Add(-time.Hour))
			r.RevokeUser(epoch, "ab", epoch)
		}, func(_, user string) bool { return user == "ab" }, replay.ErrRevoked},
	}
	names := []string{"", "a", "ab", "abc", "b", "bc", "c", "a\x00b", "ab\x00"}
	for _, tt := range revoke {
		t.Run(tt.name, func(t *testing.T) {
			var r replay.Revocations
			tt.do(&r)
			for _, room := range names {
				for _, user := range names {
					tok := chat(room, user, epoch)
					var want error
					if tt.hits(room, user) {
						want = tt.err
					}
					assert.Equal(t, want, r.Check(tok), "user %q in room %q", user, room)
					assert.Equal(t, want != nil, r.Revoked(tok))
					assert.False(t, r.Revoked(chat(room, user, epoch.Add(skew+time.Second))), "issued later")
				}
			}
		})
	}
}

func TestRevocationMoment(t *testing.T) {
	var r replay.Revocations
	moments := []time.Duration{10 * time.Second, 0, 20 * time.Second, 15 * time.Second, -time.Hour}
	latest := moments[0]
	for _, at := range moments {
		latest = max(latest, at)
		r.RevokeUser(epoch, "u", epoch.Add(at))
		assert.True(t, r.Revoked(chat("r", "u", epoch.Add(latest+skew))))
		assert.False(t, r.Revoked(chat("r", "u", epoch.Add(latest+skew+time.Second))))
	}
	assert.Equal(t, 1, r.Stats().Entries)
	r.RevokeAll(epoch.Add(time.Second))
	r.RevokeAll(epoch)
	assert.True(t, r.Revoked(chat("r", "v", epoch.Add(time.Second+skew))))
	assert.Equal(t, epoch.Add(time.Second), r.Stats().All)
}

func TestRevocationExtremes(t *testing.T) {
	var r replay.Revocations
	first := time.Unix(0, 0)
	assert.False(t, r.Revoked(chat("r", "u", first)))
	r.RevokeUser(first, "u", time.Time{})
	r.RevokeAll(time.Time{})
	assert.False(t, r.Revoked(chat("r", "u", first)), "issued in 1970, revoked before")
	assert.Zero(t, r.Stats().Entries)
	assert.Zero(t, r.Stats().All)
	for _, before := range []time.Duration{-time.Second, -time.Minute} {
		ahead := chat("r", "u", first.Add(before+time.Minute))
		ahead.ClockSkew = time.Minute
		var user, all, none replay.Revocations
		user.RevokeUser(first, "u", first.Add(before))
		assert.True(t, user.Revoked(ahead), "issued in 1970, by a clock that is ahead")
		all.RevokeAll(first.Add(before))
		assert.True(t, all.Revoked(ahead))
		none.RevokeAll(first.Add(-time.Minute - time.Second))
		assert.False(t, none.Revoked(chat("r", "u", first)))
	}
	r.RevokeUser(first, "u", first)
	assert.True(t, r.Revoked(chat("r", "u", first)))
	assert.True(t, r.Revoked(chat("r", "u", first.Add(skew))))
	assert.False(t, r.Revoked(chat("r", "u", first.Add(skew+time.Second))))
	for _, never := range []time.Time{time.Unix(math.MaxInt64, 0), time.Unix(math.MaxInt64-4, 0), time.Unix(1<<62, 0)} {
		var user, all replay.Revocations
		user.RevokeUser(epoch, "u", never)
		assert.True(t, user.Revoked(chat("r", "u", epoch)), "until %d", never.Unix())
		assert.False(t, user.Revoked(chat("r", "v", epoch)))
		all.RevokeAll(never)
		assert.True(t, all.Revoked(chat("r", "v", epoch)), "until %d", never.Unix())
	}
}

// TestRevocationsWithoutLimit has as many revocations as there are, however many
// that may be.
func TestRevocationsWithoutLimit(t *testing.T) {
	const users = 10_000
	for _, limit := range []int{math.MaxInt, math.MaxInt/2 + 1, math.MaxInt / 4} {
		r := replay.Revocations{MaxEntries: limit}
		done := make(chan bool)
		go func() {
			defer close(done)
			for i := range users {
				r.RevokeUser(epoch, fmt.Sprint(i), epoch)
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("MaxEntries %d: a revocation does not return", limit)
		}
		for i := range users {
			require.True(t, r.Revoked(chat("r", fmt.Sprint(i), epoch)))
		}
		require.False(t, r.Revoked(chat("r", "another", epoch)))
		st := r.Stats()
		assert.Equal(t, users, st.Entries)
		assert.Zero(t, st.Merged)
	}
}

// TestRevocationsExpire makes more revocations than there is room for, but in
// the course of hours.
func TestRevocationsExpire(t *testing.T) {
	r := replay.Revocations{MaxEntries: 1000}
	now := epoch
	for i := range 3_000 {
		r.RevokeUser(now, fmt.Sprint(i), now)
		for back := 0; back < min(i, 500); back += 7 { // 500 × 20 s are less than three hours
			issued := now.Add(-time.Duration(back) * 20 * time.Second)
			if !r.Revoked(chat("r", fmt.Sprint(i-back), issued)) {
				t.Fatalf("revocation %d is gone after %d more", i-back, back)
			}
		}
		require.False(t, r.Revoked(chat("r", "another", now)))
		now = now.Add(20 * time.Second)
	}
	st := r.Stats()
	assert.Zero(t, st.Merged)
	assert.LessOrEqual(t, st.Entries, 1000)
	assert.True(t, st.All.Before(now.Add(-3*time.Hour)), "only sessions that are over are affected")
}

// TestRevocationIsKept has one whose last session began by a clock that was ahead
// as far as may be. While that one lasts, nobody else is revoked for lack of room.
func TestRevocationIsKept(t *testing.T) {
	r := replay.Revocations{MaxEntries: 16}
	r.RevokeUser(epoch, "u", epoch)
	last := func(user string) claims.Summary {
		s := chat("r", user, epoch.Add(time.Minute))
		s.ClockSkew = time.Minute
		return s
	}
	end := epoch.Add(time.Minute + claims.MaxSessionMinutes*time.Minute)
	for i := range 100 {
		r.RevokeUser(end, "u", epoch.Add(-time.Duration(i)*time.Second)) // one that is there
	}
	for i := range 8 { // and make the table grow
		r.RevokeUser(end, fmt.Sprint(i), end)
	}
	assert.True(t, r.Revoked(last("u")))
	assert.False(t, r.Revoked(last("v")))
	for i := range 1000 { // until there is no room at all
		r.RevokeUser(end.Add(time.Second), fmt.Sprint("more ", i), end)
	}
	assert.True(t, r.Revoked(last("u")))
	assert.NotZero(t, r.Stats().Merged)
}

func TestRevocationsFull(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 7, 8, 9, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			r := replay.Revocations{MaxEntries: limit}
			for i := range 10 * limit {
				now := epoch.Add(time.Duration(i) * time.Second)
				r.RevokeUser(now, fmt.Sprint(i), now)
				st := r.Stats()
				require.LessOrEqual(t, st.Entries, limit)
				require.Equal(t, limit, st.MaxEntries)
				// What does not fit is of the older half: what is revoked for
				// everybody leaves the newer one to itself.
				require.True(t, st.All.Before(now))
			}
			for i := range 10 * limit {
				issued := epoch.Add(time.Duration(i) * time.Second)
				assert.True(t, r.Revoked(chat("r", fmt.Sprint(i), issued.Add(skew))), "revocation %d", i)
			}
			assert.NotZero(t, r.Stats().Merged)
		})
	}
}

// TestRevocationsModel compares with maps that never forget: a revocation is
// never lost, whatever the clock does, and while there is room and the clock
// runs forward, nobody else is revoked.
func TestRevocationsModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		r := replay.Revocations{MaxEntries: 1 + rng.IntN(100)}
		orderly := rng.IntN(2) == 0
		if orderly {
			r.MaxEntries = 0
		}
		var all time.Time
		marks := make(map[string]time.Time)
		now := epoch
		raise := func(key string, at time.Time) {
			if at.After(marks[key]) {
				marks[key] = at
			}
		}
		for range 300 {
			room, user := fmt.Sprint(rng.IntN(20)), fmt.Sprint(rng.IntN(20))
			at := now.Add(-time.Duration(rng.IntN(60)) * time.Second)
			switch p := rng.IntN(100); {
			case p < 30:
				r.RevokeUser(now, user, at)
				raise("u"+user, at)
			case p < 60:
				r.RevokeRoom(now, room, at)
				raise("r"+room, at)
			case p < 90:
				r.RevokeUserInRoom(now, room, user, at)
				raise(room+"/"+user, at)
			case p < 91 && at.After(all):
				r.RevokeAll(at)
				all = at
			case orderly || p < 98:
				now = now.Add(time.Duration(rng.IntN(100)) * time.Second)
			default:
				now = now.Add(time.Duration(rng.IntN(48)-24) * time.Hour)
			}
			room, user = fmt.Sprint(rng.IntN(20)), fmt.Sprint(rng.IntN(20))
			issued := now.Add(-time.Duration(rng.IntN(100)) * time.Second)
			want := !issued.After(all.Add(skew))
			for _, key := range []string{"u" + user, "r" + room, room + "/" + user} {
				want = want || !issued.After(marks[key].Add(skew))
			}
			got := r.Revoked(chat(room, user, issued))
			if want && !got || orderly && want != got {
				t.Fatalf("seed %d: user %s in room %s: revoked = %v, want %v", seed, user, room, got, want)
			}
		}
	}
}

// TestRevocationsWhileAsked has readers ask for what is revoked all the time,
// while writers make the table grow, merge and start again.
func TestRevocationsWhileAsked(t *testing.T) {
	r := replay.Revocations{MaxEntries: 64}
	for i := range 10 {
		r.RevokeUser(epoch, fmt.Sprint("victim", i), epoch)
	}
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for n := i; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if !r.Revoked(chat("r", fmt.Sprint("victim", n%10), epoch)) {
					t.Error("not revoked any more")
					return
				}
				runtime.Gosched()
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 5000 {
				now := epoch.Add(time.Duration(i) * time.Second)
				r.RevokeUserInRoom(now, fmt.Sprint(w), fmt.Sprint(i), now)
				if !r.Revoked(chat(fmt.Sprint(w), fmt.Sprint(i), now)) {
					t.Error("not revoked after it was")
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func TestRevocationAllocs(t *testing.T) {
	testenv.SkipAllocs(t)
	var none, r replay.Revocations
	for i := range 1000 {
		r.RevokeUserInRoom(epoch, "room", fmt.Sprint(i), epoch)
	}
	r.RevokeUser(epoch, "user", epoch)
	r.RevokeRoom(epoch, "closed", epoch)
	for _, tt := range []struct {
		name string
		r    *replay.Revocations
		tok  claims.Summary
		want error
	}{
		{"none", &none, chat("room", "1", epoch), nil},
		{"miss", &r, chat("room", "another", epoch), nil},
		{"user", &r, chat("room", "user", epoch), replay.ErrRevoked},
		{"room", &r, chat("closed", "another", epoch), replay.ErrRevoked},
		{"user in room", &r, chat("room", "1", epoch), replay.ErrRevoked},
	} {
		got := testing.AllocsPerRun(1000, func() {
			if err := tt.r.Check(tt.tok); err != tt.want {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
		assert.Zero(t, got, tt.name)
	}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { r.RevokeUser(epoch, "user", epoch) }), "again")
}

// TestRevocationMemory fills the table to its default limit.
func TestRevocationMemory(t *testing.T) {
	before := heap()
	r := new(replay.Revocations)
	for i := range 3 * replay.DefaultMaxRevocations {
		now := epoch.Add(time.Duration(i) * time.Millisecond)
		r.RevokeUserInRoom(now, "room", fmt.Sprint(i), now)
	}
	assert.LessOrEqual(t, heap()-before, 3<<20+heapNoise)
	assert.NotZero(t, r.Stats().Merged)
	runtime.KeepAlive(r)
}

// What is free when a reader comes by may be another's entry a moment later:
// the reader must not take that one's mark for its own.
func TestRevocationOfAnother(t *testing.T) {
	var told atomic.Int64
	for range 200 {
		var r replay.Revocations
		r.RevokeUser(epoch, "seed", epoch)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for reader := range 2 {
			wg.Go(func() {
				innocent := claims.Summary{
					IssuedAt:       epoch,
					RoomIdentifier: fmt.Append(nil, "room ", reader),
					UserID:         fmt.Append(nil, "innocent ", reader),
				}
				for !stop.Load() {
					if r.Revoked(innocent) {
						told.Add(1)
					}
				}
			})
		}
		for i := range 2000 {
			r.RevokeUser(epoch, fmt.Sprint("other ", i), epoch)
		}
		stop.Store(true)
		wg.Wait()
	}
	assert.Zero(t, told.Load(), "times that somebody was told to be revoked who was not")
}
