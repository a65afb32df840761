package fleet_test

import (
	"container/heap"
	"time"
)

// queue runs events in the order of their times, and those of one moment in the
// order in which they were added. They run on the goroutine that calls run, in
// a bubble of testing/synctest, whose clock jumps to the next event. The zero
// value is empty.
type queue struct {
	events events
	added  int
}

type event struct {
	at     time.Time
	number int
	do     func()
}

// at runs do at a moment; at once, if that is past.
func (q *queue) at(moment time.Time, do func()) {
	q.added++
	heap.Push(&q.events, &event{moment, q.added, do})
}

func (q *queue) after(d time.Duration, do func()) { q.at(time.Now().Add(d), do) }

// run runs all events up to a moment, and what they add, until stop returns
// true.
func (q *queue) run(until time.Time, stop func() bool) {
	for len(q.events) > 0 && !q.events[0].at.After(until) && !stop() {
		e := heap.Pop(&q.events).(*event)
		time.Sleep(time.Until(e.at))
		e.do()
	}
}

// events is a heap, in the sense of container/heap.
type events []*event

func (h events) Len() int      { return len(h) }
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(e any)   { *h = append(*h, e.(*event)) }

func (h events) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].number < h[j].number
}

func (h *events) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
