package main

import (
	"testing"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
)

var program = gatewaytest.Program{Make: newGateway, Dial: gatewaytest.Gorilla, Accepts: true}

func TestGateway(t *testing.T) { program.Test(t) }
