package peers_test

import (
	"fmt"
	"strings"
)

const (
	room = "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6"

	sendMessage    = 1
	disconnectUser = 2
	deleteMessage  = 4
)

// sizes are the claims that the benchmarks of the root module use as well.
var sizes = []struct {
	name  string
	grant grant
}{
	{"small", grant{
		Room:           room,
		User:           "11231234",
		Capabilities:   sendMessage,
		Attributes:     map[string]string{"displayName": "DemoUser"},
		SessionMinutes: 60,
	}},
	{"medium", grant{
		Room:         room,
		User:         "6f1d8a52-9f0e-4c55-8a3b-2f4d5be0c1aa",
		Capabilities: sendMessage | deleteMessage,
		Attributes: map[string]string{
			"displayName": "Zoë Quartermain-Delacroix",
			"avatar":      "https://images.example.com/avatars/6f1d8a52/256x256.png",
			"badges":      "subscriber,moderator,founder,bits-1000,sub-gifter-50",
		},
		SessionMinutes: 60,
	}},
	{"large", grant{
		Room:           room,
		User:           "6f1d8a52-9f0e-4c55-8a3b-2f4d5be0c1aa",
		Capabilities:   sendMessage | deleteMessage | disconnectUser,
		Attributes:     eightAttributes(),
		SessionMinutes: 180,
	}},
}

func eightAttributes() map[string]string {
	m := map[string]string{}
	for i := range 8 {
		m[fmt.Sprintf("attribute-%d", i)] = strings.Repeat(string(rune('a'+i)), 114)
	}
	return m
}
