package bench_test

import (
	"encoding/json"
	"testing"

	"github.com/seed17cb2b26/chattoken/claims"
)

// ParseJSON: the request to mint a token, as a backend receives it, into
// claims. StandardJSON: json.Unmarshal of the same into a plain struct, without
// checks.

func BenchmarkParseJSON(b *testing.B) {
	eachRequest(b, func(request []byte) error {
		_, err := claims.ParseJSON(request, nil)
		return err
	})
}

func BenchmarkStandardJSON(b *testing.B) {
	eachRequest(b, func(request []byte) error {
		var plain struct {
			RoomIdentifier           string            `json:"roomIdentifier"`
			UserID                   string            `json:"userId"`
			Capabilities             []string          `json:"capabilities"`
			Attributes               map[string]string `json:"attributes"`
			SessionDurationInMinutes int               `json:"sessionDurationInMinutes"`
		}
		return json.Unmarshal(request, &plain)
	})
}

func eachRequest(b *testing.B, parse func(request []byte) error) {
	each(b, func(b *testing.B, r *rig) {
		request, err := json.Marshal(r.claims)
		check(b, err)
		for b.Loop() {
			check(b, parse(request))
		}
	})
}
