package replay

import "slices"

// maxIntervals is how many intervals a shard keeps. While the clock runs
// forward, one would do. Each time the clock jumps ahead, tokens are spent
// there and it is set back, there is one more.
const maxIntervals = 8

// forgotten is the set of seconds whose buckets were dropped: tokens that
// expire in one of them may have been spent. The zero value is empty. If there
// are too many intervals, the two nearest become one, and the seconds between
// them count as forgotten too.
type forgotten struct {
	n         int
	intervals [maxIntervals + 1]interval // ascending; one more than remains
}

// interval is a range of Unix seconds, both ends included.
type interval struct{ first, last int64 }

func (f *forgotten) contains(second int64) bool {
	for i := f.n - 1; i >= 0; i-- {
		if second > f.intervals[i].last {
			return false
		}
		if second >= f.intervals[i].first {
			return true
		}
	}
	return false
}

func (f *forgotten) add(second int64) {
	if f.contains(second) {
		return
	}
	all := f.intervals[:f.n]
	at := 0
	for at < len(all) && all[at].last < second {
		at++
	}
	all = slices.Insert(all, at, interval{second, second})
	for len(all) > 1 {
		i, gap := narrowest(all)
		if gap > 1 && len(all) <= maxIntervals {
			break
		}
		all[i].last = all[i+1].last
		all = slices.Delete(all, i+1, i+2)
	}
	f.n = len(all)
}

// narrowest returns the index of the interval with the smallest gap after it,
// and that gap: 1 if the next one follows at once.
func narrowest(all []interval) (index int, gap int64) {
	for i := range len(all) - 1 {
		if g := all[i+1].first - all[i].last; i == 0 || g < gap {
			index, gap = i, g
		}
	}
	return index, gap
}
