package token

import "sync"

// ErrClock tells the errors of a Sealer apart.
var ErrClock = errClock

// UseOneWorkspace replaces the pool by one that has a single workspace, whose
// memory it returns. Then only one goroutine may open and seal.
func UseOneWorkspace() (box, text []byte, restore func()) {
	ws := new(workspace)
	workspaces = sync.Pool{New: func() any { return ws }}
	return ws.box[:], ws.text[:], func() { workspaces = sync.Pool{New: func() any { return new(workspace) }} }
}
