package token_test

import (
	"context"
	"fmt"
	"time"

	"github.com/seed17cb2b26/chattoken/token"
)

var errStoreDown = token.Unavailable("down: no connection to the store")

// downGuard is a guard that cannot work.
type downGuard struct{}

func (downGuard) Spend(context.Context, time.Time, token.Summary) (fresh bool, err error) {
	return false, errStoreDown
}

func (downGuard) Revoked(token.Summary) error { return errStoreDown }

// A guard of your own. This one is for tests of a gateway: it is always down.
func ExampleGuard() {
	var guard token.Guard = downGuard{}
	err := guard.Revoked(token.Summary{})
	fmt.Println(err)
	fmt.Println(token.Action(err))
	// Output:
	// down: no connection to the store
	// try-later
}
