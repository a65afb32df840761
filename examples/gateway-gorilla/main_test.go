package main

import (
	"testing"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
)

func TestGateway(t *testing.T) {
	gatewaytest.Program{Make: newGateway, Dial: gatewaytest.Coder}.Test(t)
}
