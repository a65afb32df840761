package main

import (
	"testing"

	"github.com/seed17cb2b26/chattoken/examples/internal/fleettest"
)

func TestFleet(t *testing.T) { fleettest.Test(t, program) }
