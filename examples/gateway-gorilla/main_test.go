package main

import (
	"testing"

	"github.com/seed17cb2b26/chattoken/examples/internal/gatewaytest"
)

var program = gatewaytest.Program{Make: newGateway, Dial: gatewaytest.Coder}

func TestGateway(t *testing.T) { program.Test(t) }
