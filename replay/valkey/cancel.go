package valkey

import "context"

// heed returns the error of do, or ErrCanceled as soon as ctx is canceled: do then ends
// on its own, by the deadline that ctx has. The client heeds deadlines, but while it
// waits for a reply it may not notice that a context is canceled.
func heed(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if ctx.Err() == context.Canceled {
		return ErrCanceled
	}
	return <-done // which says more than that the time is up
}
