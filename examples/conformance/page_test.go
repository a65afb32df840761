package conformance_test

import (
	"encoding/json"
	"image"
	_ "image/png" // of the screenshots
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
)

// seen is what page.mjs reports.
type seen struct {
	Step string

	Name, User, Content string // of a message, or of the problems at two fields
	Attributes, Buttons []string
	Images              int

	Text, Title   string
	Kept          int
	Disabled      bool // whether Send is
	Overflow      int  // pixels
	Alice, Mod    int
	Before, After int               // seconds that remain
	Sockets       int               // that were opened so far
	Token         map[string]string // the panel
	Form          bool
}

// browser is page.mjs with one of its stories.
type browser struct{ *script }

func startBrowser(t testing.TB, s *server, story, screenshots string) browser {
	t.Helper()
	return browser{startScript(t, "node", "page.mjs", story, s.url, chromium, screenshots)}
}

func needPage(t testing.TB) {
	t.Helper()
	skipShort(t)
	needFile(t, chromium, "chromium")
	needNode(t)
}

// next returns what page.mjs reports next, which must be this step.
func (b browser) next(t testing.TB, step string) seen {
	t.Helper()
	v := b.see(t)
	require.Equal(t, step, v.Step, "%+v", v)
	v.Step = ""
	return v
}

// TestPage is a conversation of two users of the page, in Chromium.
func TestPage(t *testing.T) {
	t.Parallel()
	needPage(t)
	s := startServer(t)
	screenshots := t.TempDir()
	b := startBrowser(t, s, "chat", screenshots)

	empty := b.next(t, "empty")
	assert.Equal(t, "Room g1H2I3j4k5L6", empty.Title)
	assert.Contains(t, empty.Text, "Nobody has said anything")
	assert.Zero(t, empty.Overflow)
	const mod = `<b onclick="alert(1)">Mo</b>`
	said := seen{Name: "Alice", User: "alice-1", Content: "Hello, is anybody here?", Buttons: []string{}, Attributes: []string{}}
	toMod := said
	toMod.Buttons = []string{"Delete", "Disconnect"}
	assert.Equal(t, toMod, b.next(t, "alice to mod"))
	assert.Equal(t, said, b.next(t, "alice to alice"))
	said.Name, said.User, said.Content = mod, "mod-1", "<img src=x onerror=alert(1)> welcome, שלום"
	assert.Equal(t, said, b.next(t, "mod to alice"), "text, and no markup")
	assert.Equal(t, seen{Text: "Too long to send: remove 1 character. 501 / 500", Kept: 1002, Disabled: true}, b.next(t, "too long")) // in UTF-16
	assert.Equal(t, seen{Text: "log"}, b.next(t, "deleted"), "how often the deleted message is still shown, and where the focus is")
	clock := b.next(t, "remaining")
	assert.InDelta(t, 3600, clock.Before, 60)
	assert.Less(t, clock.After, clock.Before)
	assert.Equal(t, seen{Form: true}, b.next(t, "disconnected"))
	b.next(t, "done")

	for _, name := range []string{"join.png", "light.png", "dark.png", "disconnected.png"} {
		checkScreenshot(t, filepath.Join(screenshots, name))
	}
}

// TestPageProblems enters invalid fields, and loses its room.
func TestPageProblems(t *testing.T) {
	t.Parallel()
	needPage(t)
	b := startBrowser(t, startServer(t), "problems", t.TempDir())
	assert.Equal(t, seen{User: "Enter a user ID: any name that is yours alone in this room.", Name: "Enter the name that others see."},
		b.next(t, "nothing entered"))
	assert.Equal(t, seen{User: "Use at most 128 characters. These are 129."}, b.next(t, "long user"))
	assert.Equal(t, seen{Name: "This is too long. Use a shorter name."}, b.next(t, "long name"))
	assert.Equal(t, seen{Text: "Too long to send: remove 1 character. 4 / 3", Content: "four"}, b.next(t, "refused"))
	assert.Equal(t, seen{}, b.next(t, "typing"), "no alert, and Send can be pressed")
	assert.Equal(t, seen{Text: "There is no such room any more. Choose another one."}, b.next(t, "no room"))
	b.next(t, "done")
}

// TestPageRestart kills the page's server, and drains the next one. When there
// is a server again, the page comes back with a fresh token.
func TestPageRestart(t *testing.T) {
	t.Parallel()
	needPage(t)
	first := startServer(t, "-listen", valkeytest.FreeAddress(t))
	b := startBrowser(t, first, "restart", t.TempDir())
	b.next(t, "joined")
	first.kill()
	assert.Equal(t, seen{Disabled: true, Text: "You can send when you are connected."}, b.next(t, "lost"))
	b.next(t, "ticks")
	second := startServer(t, "-listen", first.address())
	assert.Equal(t, seen{Text: "a draft"}, b.next(t, "again"), "nothing that was said of the loss remains")
	assert.Equal(t, "what was that?", b.next(t, "back").Content)
	b.next(t, "once more")
	second.terminate(t)
	startServer(t, "-listen", first.address())
	assert.Equal(t, seen{Sockets: 1}, b.next(t, "drained"))
	b.next(t, "done")
}

// TestPageRenewal renews a session of a minute on its connection. The page also
// shows attributes that /join doesn't give.
func TestPageRenewal(t *testing.T) {
	t.Parallel()
	needPage(t)
	s := startServer(t)
	b := startBrowser(t, s, "renewal", t.TempDir())
	begun := b.next(t, "begun")
	assert.LessOrEqual(t, begun.Before, 60)
	assert.Equal(t, "Alice", begun.Name)
	assert.Equal(t, []string{"badge: gold"}, begun.Attributes)
	assert.Equal(t, room, begun.Token["Room"])
	assert.Equal(t, "alice-1", begun.Token["User"])
	assert.Equal(t, "displayName: Alice, badge: gold", begun.Token["Attributes"])
	assert.Equal(t, "view, send message", begun.Token["May"])
	assert.Regexp(t, `^\d{3} characters, encrypted\. In JSON, what it says takes \d{3}\.$`, begun.Token["Length"])
	assert.Contains(t, begun.Token["Sessions"], "this is the first")
	renewed := b.next(t, "renewed")
	assert.Greater(t, renewed.After, 60)
	assert.Equal(t, 1, renewed.Sockets, "it is the same connection")
	assert.Equal(t, "displayName: Alice", renewed.Token["Attributes"], "it is another token")
	assert.Equal(t, []string{}, b.next(t, "said").Attributes)
	assert.Equal(t, seen{Sockets: 1}, b.next(t, "asked"))
	b.next(t, "done")
}

// see returns the next report of a script of the page.
func (s *script) see(t testing.TB) (v seen) {
	t.Helper()
	select {
	case line, ok := <-s.lines:
		require.True(t, ok, "the browser has ended")
		require.NoError(t, json.Unmarshal(line, &v), string(line))
	case <-time.After(patience):
		require.Fail(t, "the browser does not go on")
	}
	return v
}

// checkScreenshot checks that the page was drawn: it has the window's size, a
// background over most of it, and text, which shows as many shades.
func checkScreenshot(t testing.TB, name string) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	img, _, err := image.Decode(file)
	require.NoError(t, err)
	size := img.Bounds().Max
	assert.Contains(t, []image.Point{{390, 780}, {1280, 780}}, size)
	pixels, most := map[uint32]int{}, 0
	for y := range size.Y {
		for x := range size.X {
			r, g, b, _ := img.At(x, y).RGBA()
			shade := (r>>8)<<16 | (g>>8)<<8 | b>>8
			pixels[shade]++
			most = max(most, pixels[shade])
		}
	}
	assert.Greater(t, len(pixels), 50, name)
	assert.Less(t, most, size.X*size.Y*95/100, name)
	assert.Greater(t, most, size.X*size.Y/4, name)
}
