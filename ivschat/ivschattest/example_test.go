package ivschattest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"

	"github.com/seed17cb2b26/chattoken/ivschat/ivschattest"
)

// A user's session, from the token to its end. In a test, t is the test's own.
func Example() {
	t := new(exampleT)
	defer t.end()
	ctx := context.Background()
	chat := ivschattest.NewServer(t)

	// The application's server asks for a token, by the AWS SDK.
	api := ivschat.New(ivschat.Options{
		BaseEndpoint: &chat.URL,
		Region:       chat.Region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: chat.AccessKeyID, SecretAccessKey: chat.SecretAccessKey}, nil
		}),
	})
	admit := func(userID string) string {
		minted, err := api.CreateChatToken(ctx, &ivschat.CreateChatTokenInput{
			RoomIdentifier:           &chat.Room,
			UserId:                   &userID,
			Capabilities:             []types.ChatTokenCapability{types.ChatTokenCapabilitySendMessage},
			SessionDurationInMinutes: aws.Int32(30),
		})
		if err != nil {
			t.Fatal(err)
		}
		return *minted.Token
	}

	// The user's client presents it as the only subprotocol.
	connect := func(token string) *websocket.Conn {
		conn, _, err := websocket.Dial(ctx, chat.MessagingURL, &websocket.DialOptions{Subprotocols: []string{token}})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := connect(admit("ann"))
	defer conn.CloseNow()
	receive := func() (frame struct {
		Type, Content, ErrorMessage string
		Sender                      struct{ UserID string }
	}) {
		if _, text, err := conn.Read(ctx); err != nil {
			t.Fatal(err)
		} else if err := json.Unmarshal(text, &frame); err != nil {
			t.Fatal(err)
		}
		return frame
	}
	conn.Write(ctx, websocket.MessageText, []byte(`{"Action":"SEND_MESSAGE","Content":"hello"}`))
	message := receive()
	fmt.Println(message.Type, message.Sender.UserID, message.Content)

	// Half an hour later it needs another one.
	chat.Advance(30 * time.Minute)
	end := receive()
	fmt.Println(end.Type, end.ErrorMessage)
	connect(admit("ann")).CloseNow()

	// Output:
	// MESSAGE ann hello
	// ERROR session expired
}

// exampleT stands in for the *testing.T that an example lacks.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()           {}
func (t *exampleT) Output() io.Writer { return io.Discard }
func (t *exampleT) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (t *exampleT) end() {
	for _, f := range t.cleanups {
		f()
	}
}
