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
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/internal/testenv"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
)

const skew = 5 * time.Second // the default

// chat is a token of a user in a room, issued at a moment.
func chat(room, user string, issued time.Time) token.Summary {
	return token.Summary{
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
		{"user ab", func(r *replay.Revocations) { r.Revoke(epoch, token.Target{User: "ab"}, epoch) },
			func(_, user string) bool { return user == "ab" }, token.ErrRevoked},
		{"room ab", func(r *replay.Revocations) { r.Revoke(epoch, token.Target{Room: "ab"}, epoch) },
			func(room, _ string) bool { return room == "ab" }, token.ErrRevoked},
		{"user c in room ab", func(r *replay.Revocations) { r.Revoke(epoch, token.Target{Room: "ab", User: "c"}, epoch) },
			func(room, user string) bool { return room == "ab" && user == "c" }, token.ErrRevoked},
		{"user ab in room ab", func(r *replay.Revocations) { r.Revoke(epoch, token.Target{Room: "ab", User: "ab"}, epoch) },
			func(room, user string) bool { return room == "ab" && user == "ab" }, token.ErrRevoked},
		{"all", func(r *replay.Revocations) { r.Revoke(epoch, token.Target{Everyone: true}, epoch) }, func(string, string) bool { return true }, token.ErrAllRevoked},
		{"all, and user ab later", func(r *replay.Revocations) {
			r.Revoke(epoch.Add(-time.Hour), token.Target{Everyone: true}, epoch.Add(-time.Hour))
			r.Revoke(epoch, token.Target{User: "ab"}, epoch)
		}, func(_, user string) bool { return user == "ab" }, token.ErrRevoked},
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
					assert.Equal(t, want, r.Revoked(tok), "user %q in room %q", user, room)
					assert.NoError(t, r.Revoked(chat(room, user, epoch.Add(skew+time.Second))), "issued later")
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
		r.Revoke(epoch, token.Target{User: "u"}, epoch.Add(at))
		assert.Error(t, r.Revoked(chat("r", "u", epoch.Add(latest+skew))))
		assert.NoError(t, r.Revoked(chat("r", "u", epoch.Add(latest+skew+time.Second))))
	}
	assert.Equal(t, 1, r.Stats().Entries)
	r.Revoke(epoch.Add(time.Second), token.Target{Everyone: true}, epoch.Add(time.Second))
	r.Revoke(epoch, token.Target{Everyone: true}, epoch)
	assert.Error(t, r.Revoked(chat("r", "v", epoch.Add(time.Second+skew))))
	assert.Equal(t, epoch.Add(time.Second), r.Stats().All)
}

func TestRevocationExtremes(t *testing.T) {
	var r replay.Revocations
	first := time.Unix(0, 0)
	assert.NoError(t, r.Revoked(chat("r", "u", first)))
	for _, who := range []token.Target{{User: "u"}, {Everyone: true}} {
		assert.Error(t, r.Revoke(first, who, time.Time{}), "that would revoke nobody")
	}
	assert.NoError(t, r.Revoked(chat("r", "u", first)))
	assert.Zero(t, r.Stats().Entries)
	assert.Zero(t, r.Stats().All)
	for _, before := range []time.Duration{-time.Second, -time.Minute} {
		ahead := chat("r", "u", first.Add(before+time.Minute))
		ahead.ClockSkew = time.Minute
		var user, all, none replay.Revocations
		user.Revoke(first, token.Target{User: "u"}, first.Add(before))
		assert.Error(t, user.Revoked(ahead), "issued in 1970, by a clock that is ahead")
		all.Revoke(first.Add(before), token.Target{Everyone: true}, first.Add(before))
		assert.Error(t, all.Revoked(ahead))
		none.Revoke(first.Add(-time.Minute-time.Second), token.Target{Everyone: true}, first.Add(-time.Minute-time.Second))
		assert.NoError(t, none.Revoked(chat("r", "u", first)))
	}
	r.Revoke(first, token.Target{User: "u"}, first)
	assert.Error(t, r.Revoked(chat("r", "u", first)))
	assert.Error(t, r.Revoked(chat("r", "u", first.Add(skew))))
	assert.NoError(t, r.Revoked(chat("r", "u", first.Add(skew+time.Second))))
	for _, never := range []time.Time{time.Unix(math.MaxInt64, 0), time.Unix(math.MaxInt64-4, 0), time.Unix(1<<62, 0)} {
		var user, all replay.Revocations
		user.Revoke(epoch, token.Target{User: "u"}, never)
		assert.Error(t, user.Revoked(chat("r", "u", epoch)), "until %d", never.Unix())
		assert.NoError(t, user.Revoked(chat("r", "v", epoch)))
		all.Revoke(never, token.Target{Everyone: true}, never)
		assert.Error(t, all.Revoked(chat("r", "v", epoch)), "until %d", never.Unix())
	}
}

// TestRevocationsWithoutLimit uses the largest values of MaxEntries.
func TestRevocationsWithoutLimit(t *testing.T) {
	const users = 10_000
	for _, limit := range []int{math.MaxInt, math.MaxInt/2 + 1, math.MaxInt / 4} {
		r := replay.Revocations{MaxEntries: limit}
		done := make(chan bool)
		go func() {
			defer close(done)
			for i := range users {
				r.Revoke(epoch, token.Target{User: fmt.Sprint(i)}, epoch)
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("MaxEntries %d: a revocation does not return", limit)
		}
		for i := range users {
			require.Error(t, r.Revoked(chat("r", fmt.Sprint(i), epoch)))
		}
		require.NoError(t, r.Revoked(chat("r", "another", epoch)))
		st := r.Stats()
		assert.Equal(t, users, st.Entries)
		assert.Zero(t, st.Merged)
	}
}

// TestRevocationsExpire makes more revocations than there is room for, but over
// hours.
func TestRevocationsExpire(t *testing.T) {
	r := replay.Revocations{MaxEntries: 1000}
	now := epoch
	for i := range 3_000 {
		r.Revoke(now, token.Target{User: fmt.Sprint(i)}, now)
		// 500 × 20 s are less than 3 h.
		for back := 0; back < min(i, 500); back += 7 {
			issued := now.Add(-time.Duration(back) * 20 * time.Second)
			if r.Revoked(chat("r", fmt.Sprint(i-back), issued)) == nil {
				t.Fatalf("revocation %d is gone after %d more", i-back, back)
			}
		}
		require.NoError(t, r.Revoked(chat("r", "another", now)))
		now = now.Add(20 * time.Second)
	}
	st := r.Stats()
	assert.Zero(t, st.Merged)
	assert.LessOrEqual(t, st.Entries, 1000)
	assert.True(t, st.All.Before(now.Add(-3*time.Hour)), "only sessions that are over are affected")
}

// TestRevocationIsKept keeps a revocation while its last session lasts, which
// began by a clock as far ahead as possible. Until then, lack of room revokes
// nobody else.
func TestRevocationIsKept(t *testing.T) {
	r := replay.Revocations{MaxEntries: 16}
	r.Revoke(epoch, token.Target{User: "u"}, epoch)
	last := func(user string) token.Summary {
		s := chat("r", user, epoch.Add(time.Minute))
		s.ClockSkew = time.Minute
		return s
	}
	end := epoch.Add(time.Minute + claims.MaxSessionMinutes*time.Minute)
	for i := range 100 {
		// This target is already there.
		r.Revoke(end, token.Target{User: "u"}, epoch.Add(-time.Duration(i)*time.Second))
	}
	for i := range 8 { // make the table grow
		r.Revoke(end, token.Target{User: fmt.Sprint(i)}, end)
	}
	assert.Error(t, r.Revoked(last("u")))
	assert.NoError(t, r.Revoked(last("v")))
	for i := range 1000 { // until there is no room
		r.Revoke(end.Add(time.Second), token.Target{User: fmt.Sprint("more ", i)}, end)
	}
	assert.Error(t, r.Revoked(last("u")))
	assert.NotZero(t, r.Stats().Merged)
}

func TestRevocationsFull(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 7, 8, 9, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			r := replay.Revocations{MaxEntries: limit}
			for i := range 10 * limit {
				now := epoch.Add(time.Duration(i) * time.Second)
				r.Revoke(now, token.Target{User: fmt.Sprint(i)}, now)
				st := r.Stats()
				require.LessOrEqual(t, st.Entries, limit)
				require.Equal(t, limit, st.MaxEntries)
				// Merging takes the older half: everyone's
				// revocation spares the newer one.
				require.True(t, st.All.Before(now))
			}
			for i := range 10 * limit {
				issued := epoch.Add(time.Duration(i) * time.Second)
				assert.Error(t, r.Revoked(chat("r", fmt.Sprint(i), issued.Add(skew))), "revocation %d", i)
			}
			assert.NotZero(t, r.Stats().Merged)
		})
	}
}

// TestRevocationsModel compares with maps that never forget. No revocation is
// ever lost, whatever the clock does. While there is room and the clock runs
// forward, nobody else is revoked.
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
				r.Revoke(now, token.Target{User: user}, at)
				raise("u"+user, at)
			case p < 60:
				r.Revoke(now, token.Target{Room: room}, at)
				raise("r"+room, at)
			case p < 90:
				r.Revoke(now, token.Target{Room: room, User: user}, at)
				raise(room+"/"+user, at)
			case p < 91 && at.After(all):
				r.Revoke(at, token.Target{Everyone: true}, at)
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
			got := r.Revoked(chat(room, user, issued)) != nil
			if want && !got || orderly && want != got {
				t.Fatalf("seed %d: user %s in room %s: revoked = %v, want %v", seed, user, room, got, want)
			}
		}
	}
}

// TestRevocationsWhileAsked reads all the time, while writers make the table
// grow, merge and start again.
func TestRevocationsWhileAsked(t *testing.T) {
	r := replay.Revocations{MaxEntries: 64}
	for i := range 10 {
		r.Revoke(epoch, token.Target{User: fmt.Sprint("victim", i)}, epoch)
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
				if r.Revoked(chat("r", fmt.Sprint("victim", n%10), epoch)) == nil {
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
				r.Revoke(now, token.Target{Room: fmt.Sprint(w), User: fmt.Sprint(i)}, now)
				if r.Revoked(chat(fmt.Sprint(w), fmt.Sprint(i), now)) == nil {
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
		r.Revoke(epoch, token.Target{Room: "room", User: fmt.Sprint(i)}, epoch)
	}
	r.Revoke(epoch, token.Target{User: "user"}, epoch)
	r.Revoke(epoch, token.Target{Room: "closed"}, epoch)
	for _, tt := range []struct {
		name string
		r    *replay.Revocations
		tok  token.Summary
		want error
	}{
		{"none", &none, chat("room", "1", epoch), nil},
		{"miss", &r, chat("room", "another", epoch), nil},
		{"user", &r, chat("room", "user", epoch), token.ErrRevoked},
		{"room", &r, chat("closed", "another", epoch), token.ErrRevoked},
		{"user in room", &r, chat("room", "1", epoch), token.ErrRevoked},
	} {
		got := testing.AllocsPerRun(1000, func() {
			if err := tt.r.Revoked(tt.tok); err != tt.want {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
		assert.Zero(t, got, tt.name)
	}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { r.Revoke(epoch, token.Target{User: "user"}, epoch) }), "again")
}

// TestRevocationMemory fills the table to its default limit.
func TestRevocationMemory(t *testing.T) {
	before := heap()
	r := new(replay.Revocations)
	for i := range 3 * replay.DefaultMaxRevocations {
		now := epoch.Add(time.Duration(i) * time.Millisecond)
		r.Revoke(now, token.Target{Room: "room", User: fmt.Sprint(i)}, now)
	}
	assert.LessOrEqual(t, r.Stats().News, r.Stats().Entries+1)
	if !testenv.Race { // maps are larger with it
		assert.LessOrEqual(t, heap()-before, 17<<20+heapNoise)
	}
	r.News(func(token.Target, time.Time) {})
	assert.LessOrEqual(t, heap()-before, 3<<20+heapNoise)
	assert.NotZero(t, r.Stats().Merged)
	runtime.KeepAlive(r)
}

// A free entry may be another's a moment later. A reader must not take that
// one's mark for its own.
func TestRevocationOfAnother(t *testing.T) {
	var told atomic.Int64
	for range 200 {
		var r replay.Revocations
		r.Revoke(epoch, token.Target{User: "seed"}, epoch)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for reader := range 2 {
			wg.Go(func() {
				innocent := token.Summary{
					IssuedAt:       epoch,
					RoomIdentifier: fmt.Append(nil, "room ", reader),
					UserID:         fmt.Append(nil, "innocent ", reader),
				}
				for !stop.Load() {
					if r.Revoked(innocent) != nil {
						told.Add(1)
					}
				}
			})
		}
		for i := range 2000 {
			r.Revoke(epoch, token.Target{User: fmt.Sprint("other ", i)}, epoch)
		}
		stop.Store(true)
		wg.Wait()
	}
	assert.Zero(t, told.Load(), "times that somebody was told to be revoked who was not")
}

func single(i int) token.Target { return token.Target{Token: tokenID(uint64(i))} }

// One token is revoked, whenever it was issued and for whatever room.
func TestRevocationOfToken(t *testing.T) {
	var r replay.Revocations
	require.NoError(t, r.Revoke(epoch, single(1), time.Time{}))
	for i := range 3 {
		for _, age := range []time.Duration{-time.Hour, 0, time.Hour} {
			tok := tokenAt(uint64(i), epoch.Add(age), time.Minute)
			var want error
			if i == 1 {
				want = token.ErrRevoked
			}
			assert.Equal(t, want, r.Revoked(tok))
		}
	}
	assert.Equal(t, 1, r.Stats().Entries)
}

// A target that names nobody is an error, not a revocation without effect.
func TestRevokeNobody(t *testing.T) {
	g := newGuard(t, 1)
	for _, who := range []token.Target{{}, {User: "u", Everyone: true}, {Room: "r", Token: tokenID(1)}, {User: "\xff"}} {
		assert.Error(t, g.Revoke(ctx, who, epoch), "%+v", who)
	}
	assert.Zero(t, g.Stats(epoch).Revocations.Entries)
	assert.Zero(t, g.Stats(epoch).Revocations.All)
}

// Single tokens take at most half of the room, and none is given up. All other
// targets still fit, and revoke others only by merging the earlier of their own
// kind.
func TestRevocationsFullOfTokens(t *testing.T) {
	for _, limit := range []int{1, 2, 8, 100} {
		r := replay.Revocations{MaxEntries: limit}
		for i := range (limit + 1) / 2 {
			require.NoError(t, r.Revoke(epoch, single(i), time.Time{}))
		}
		require.NoError(t, r.Revoke(epoch, single(0), time.Time{}), "one that is there")
		require.Equal(t, replay.ErrFull, r.Revoke(epoch, single(limit), time.Time{}))
		require.NoError(t, r.Revoked(tokenAt(uint64(limit), epoch, time.Minute)))

		require.NoError(t, r.Revoke(epoch, token.Target{User: "u"}, epoch.Add(tenYears)))
		require.Equal(t, token.ErrRevoked, r.Revoked(chat("r", "u", epoch)))
		require.NoError(t, r.Revoked(chat("r", "v", epoch)))
		for i := range (limit + 1) / 2 {
			require.Equal(t, token.ErrRevoked, r.Revoked(tokenAt(uint64(i), epoch.Add(time.Hour), time.Minute)), "token %d", i)
		}
		// Three hours later they have expired, and leave room.
		later := epoch.Add(4 * time.Hour)
		require.NoError(t, r.Revoke(later, single(limit), time.Time{}))
		require.Equal(t, 2, r.Stats().Entries)
	}
}

// A single token's revocation merges nobody, and fits in a table that is full
// of users: a guard that learns of it must not fail.
func TestRevocationOfTokenMergesNothing(t *testing.T) {
	for _, limit := range []int{1, 2, 72, 1000} {
		r := replay.Revocations{MaxEntries: limit}
		for i := range limit {
			require.NoError(t, r.Revoke(epoch, token.Target{User: fmt.Sprint(i)}, epoch))
			require.Zero(t, r.Stats().Merged, "before the table was full")
		}
		for i := range (limit + 1) / 2 {
			require.NoError(t, r.Revoke(epoch, single(i), time.Time{}))
		}
		require.Equal(t, replay.ErrFull, r.Revoke(epoch, single(limit), time.Time{}))
		require.NoError(t, r.Revoked(chat("r", "another", epoch)))
		require.Zero(t, r.Stats().All)
		require.Equal(t, limit+(limit+1)/2, r.Stats().Entries)
		for i := range (limit + 1) / 2 {
			require.Equal(t, token.ErrRevoked, r.Revoked(tokenAt(uint64(i), epoch, time.Minute)))
		}
		// One more user merges users, and no token.
		require.NoError(t, r.Revoke(epoch, token.Target{User: "more"}, epoch.Add(time.Second)))
		require.NotZero(t, r.Stats().Merged)
		require.Equal(t, token.ErrRevoked, r.Revoked(tokenAt(0, epoch.Add(time.Hour), time.Minute)))
	}
}

// The clock steps back after everyone was revoked: the news of a single token
// is told all the same.
func TestRevocationNewsAfterAClockStep(t *testing.T) {
	var r replay.Revocations
	r.Revoke(epoch, token.Target{Everyone: true}, epoch)
	r.News(func(token.Target, time.Time) {})
	live := tokenAt(1, epoch.Add(10*time.Second), time.Minute)
	back := epoch.Add(-10 * time.Second)
	r.Revoke(back, single(1), time.Time{})
	for i := range 20 { // the table grows
		r.Revoke(back, token.Target{User: fmt.Sprint(i)}, back)
	}
	require.Equal(t, token.ErrRevoked, r.Revoked(live))
	told := false
	r.News(func(who token.Target, _ time.Time) { told = told || who == single(1) })
	require.True(t, told)
}

// News stays bounded even if its receiver revokes, and panics.
func TestRevocationNewsBoundedWhereTheyFail(t *testing.T) {
	r := replay.Revocations{MaxEntries: 64}
	for round := range 100 {
		now := epoch.Add(time.Duration(round) * time.Second)
		r.Revoke(now, token.Target{User: fmt.Sprint("a", round)}, now)
		assert.Panics(t, func() {
			r.News(func(token.Target, time.Time) {
				for i := range 300 {
					r.Revoke(now, token.Target{User: fmt.Sprint(round, " ", i)}, now)
				}
				panic("told")
			})
		})
	}
	require.LessOrEqual(t, r.Stats().News, 65)
}

// A user's revocation makes room by merging users, and no token.
func TestRevocationsMergeNoToken(t *testing.T) {
	r := replay.Revocations{MaxEntries: 64}
	for i := range 16 {
		require.NoError(t, r.Revoke(epoch, single(i), time.Time{}))
	}
	for i := range 1000 {
		now := epoch.Add(time.Duration(i) * time.Second)
		require.NoError(t, r.Revoke(now, token.Target{User: fmt.Sprint(i)}, now))
		require.LessOrEqual(t, r.Stats().Entries, 64+16)
		require.True(t, r.Stats().All.Before(now))
	}
	require.NotZero(t, r.Stats().Merged)
	for i := range 16 {
		require.Equal(t, token.ErrRevoked, r.Revoked(tokenAt(uint64(i), epoch.Add(2000*time.Second), time.Minute)))
	}
}

// News tells each target once, however it was revoked.
func TestRevocationNews(t *testing.T) {
	var r replay.Revocations
	news := func() map[token.Target]time.Time {
		m := map[token.Target]time.Time{}
		r.News(func(t token.Target, before time.Time) { m[t] = before })
		return m
	}
	user, everyone := token.Target{User: "u"}, token.Target{Everyone: true}
	require.Empty(t, news())
	r.Revoke(epoch, user, epoch)
	r.Revoke(epoch, user, epoch.Add(time.Second))
	r.Revoke(epoch, user, epoch.Add(-time.Second))
	r.Revoke(epoch, single(1), epoch)
	require.Equal(t, 2, r.Stats().News)
	require.Equal(t, map[token.Target]time.Time{user: epoch.Add(time.Second), single(1): {}}, news())
	require.Empty(t, news())
	r.Revoke(epoch, user, epoch)
	r.Revoke(epoch, single(1), time.Time{})
	require.Empty(t, news(), "what is in force already")
	r.Revoke(epoch, user, epoch.Add(time.Minute))
	r.Revoke(epoch, everyone, epoch.Add(time.Minute))
	require.Equal(t, map[token.Target]time.Time{everyone: epoch.Add(time.Minute)}, news(), "all is in one")
}

// A receiver may revoke, and may panic: the rest is told again.
func TestRevocationNewsAgain(t *testing.T) {
	var r replay.Revocations
	for i := range 10 {
		r.Revoke(epoch, single(i), time.Time{})
	}
	told := map[token.Target]bool{}
	for len(told) < 10 {
		assert.Panics(t, func() {
			r.News(func(who token.Target, _ time.Time) {
				r.Revoke(epoch, token.Target{User: "u"}, epoch)
				told[who] = true
				if len(told)%2 == 1 {
					panic("told")
				}
			})
		})
		if r.Stats().News == 0 {
			break
		}
	}
	r.News(func(who token.Target, _ time.Time) { told[who] = true })
	for i := range 10 {
		assert.True(t, told[single(i)], "token %d", i)
	}
}

// Nobody fetches the news. It stays within the table's limits, and in the end
// covers every target.
func TestRevocationNewsBounded(t *testing.T) {
	r := replay.Revocations{MaxEntries: 50}
	for i := range 2000 {
		now := epoch.Add(time.Duration(i) * time.Second)
		r.Revoke(now, token.Target{User: fmt.Sprint(i)}, now)
		require.LessOrEqual(t, r.Stats().News, 51)
	}
	var all time.Time
	users := map[string]bool{}
	r.News(func(who token.Target, before time.Time) {
		if who.Everyone {
			all = before
		}
		users[who.User] = true
	})
	for i := range 2000 {
		moment := epoch.Add(time.Duration(i) * time.Second)
		assert.True(t, users[fmt.Sprint(i)] || !all.Before(moment), "user %d", i)
	}
}

// The guard refuses a revoked token before it spends it, and tells the news.
func TestGuardRevokes(t *testing.T) {
	g := newGuard(t, 1)
	tok := tokenAt(1, epoch, time.Minute)
	require.NoError(t, g.Revoked(tok))
	require.NoError(t, g.Revoke(ctx, single(1), time.Time{}))
	require.Equal(t, token.ErrRevoked, g.Revoked(tok))
	requireError(t, g, epoch, tok, token.ErrRevoked)
	require.Zero(t, g.Stats(epoch).Live)
	require.Equal(t, epoch, g.Synced())
	var told []token.Target
	require.NoError(t, g.Sync(ctx, func(who token.Target, _ time.Time) { told = append(told, who) }))
	require.Equal(t, []token.Target{single(1)}, told)

	var none *replay.Guard
	for _, g := range []*replay.Guard{none, new(replay.Guard)} {
		assert.ErrorIs(t, g.Revoked(tok), token.ErrUnavailable)
		assert.ErrorIs(t, g.Revoke(ctx, single(1), time.Time{}), token.ErrUnavailable)
		assert.ErrorIs(t, g.Sync(ctx, nil), token.ErrUnavailable)
		assert.Zero(t, g.Synced())
		assert.Zero(t, g.Limits())
	}
}

// NotBefore acts like another start.
func TestNotBefore(t *testing.T) {
	for _, accept := range []bool{false, true} {
		g, err := newAt(epoch, replay.Config{NotBefore: epoch.Add(time.Hour), AcceptIssuedBeforeStart: accept})
		require.NoError(t, err)
		ready := epoch.Add(time.Hour + skew + time.Second)
		assert.Equal(t, ready, g.ReadyAt())
		requireError(t, g, ready, tokenAt(1, ready.Add(-time.Second), time.Minute), replay.ErrBeforeStart)
		requireFresh(t, g, ready, tokenAt(1, ready, time.Minute))
	}
	_, err := newAt(epoch, replay.Config{NotBefore: time.Unix(-1, 0)})
	require.ErrorContains(t, err, "Config.NotBefore")
	g, err := newAt(epoch, replay.Config{NotBefore: epoch.Add(-time.Hour)})
	require.NoError(t, err)
	assert.Equal(t, epoch.Add(skew+time.Second), g.ReadyAt())
	_, err = replay.New(replay.Config{})
	require.ErrorContains(t, err, "Config.Limits is not set")
}

// The wall clock is set back within one process. The monotonic clock goes on,
// and must not make the guard believe that it is later than NotBefore.
func TestNotBeforeIsATimeOfDay(t *testing.T) {
	recorded := time.Now()
	later := time.Now()
	// A time with a monotonic reading has its seconds in the bits above
	// these.
	*(*uint64)(unsafe.Pointer(&later)) -= 3600 << 30
	require.True(t, later.After(recorded), "by the monotonic clock")
	require.Less(t, later.Unix(), recorded.Unix()-3000)
	g, err := newAt(later, replay.Config{NotBefore: recorded})
	require.NoError(t, err)
	assert.Equal(t, recorded.Unix()+6, g.ReadyAt().Unix())
}
