package claims_test

import (
	"errors"
	"fmt"

	"github.com/seed17cb2b26/chattoken/claims"
)

func ExampleParseJSON() {
	c, err := claims.ParseJSON([]byte(`{
		"roomIdentifier": "arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
		"userId": "11231234",
		"capabilities": ["SEND_MESSAGE", "DELETE_MESSAGE"],
		"attributes": {"displayName": "DemoUser"}
	}`), nil)
	fmt.Println(c.UserID, c.Capabilities, c.Attributes, err)
	// Output: 11231234 SEND_MESSAGE,DELETE_MESSAGE map[displayName:DemoUser] <nil>
}

func ExampleValidationError() {
	_, err := claims.ParseJSON([]byte(`{"userId": "", "capabilities": ["KICK"]}`),
		func(room string) bool { return true })

	var invalid *claims.ValidationError
	if errors.As(err, &invalid) {
		for _, f := range invalid.Fields {
			fmt.Printf("%s: %s\n", f.Name, f.Message)
		}
	}
	// Output:
	// roomIdentifier: required; 1–128 bytes allowed
	// userId: required; 1–128 code points allowed
	// capabilities: unknown name; allowed: SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE
}

// By default a room is an ARN. An application may name rooms otherwise.
func ExampleClaims() {
	c := claims.Claims{RoomIdentifier: "lobby", UserID: "11231234"}
	fmt.Println(c.Validate(nil) == nil)
	fmt.Println(c.Validate(func(room string) bool { return room == "lobby" }) == nil)
	fmt.Println(c.SessionDuration())
	// Output:
	// false
	// true
	// 1h0m0s
}

func ExampleCapabilities() {
	c, err := claims.ParseCapabilities("DELETE_MESSAGE", "SEND_MESSAGE")
	fmt.Println(c, err)
	fmt.Println(c.Has(claims.SendMessage), c.Has(claims.DisconnectUser))
	// Output:
	// SEND_MESSAGE,DELETE_MESSAGE <nil>
	// true false
}
