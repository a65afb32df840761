package replay

import "unsafe"

// What the tests of unexported rules need.

const MaxTable = maxTable

var (
	ShardCapacity = shardCapacity
	ShardCount    = shardCount
)

// The sizes that Stats assumes for the fixed parts, and the real ones.
const (
	StatedShard, StatedBucket = shardBytes, bucketBytes
	ActualShard, ActualBucket = unsafe.Sizeof(shard{}), unsafe.Sizeof(bucket{})
)

// Forgotten is the set of forgotten seconds.
type Forgotten struct{ set forgotten }

func (f *Forgotten) Add(second int64)           { f.set.add(second) }
func (f *Forgotten) Contains(second int64) bool { return f.set.contains(second) }
func (f *Forgotten) Intervals() int             { return f.set.n }

// LargestTable returns the words of the largest table in use.
func (g *Guard) LargestTable() (words int) {
	for i := range g.shards {
		for _, b := range g.shards[i].buckets {
			words = max(words, len(b.table))
			for _, t := range b.older {
				words = max(words, len(t))
			}
		}
	}
	return words
}
