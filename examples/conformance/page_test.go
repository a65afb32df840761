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

// seen is what page.mjs reports of the page.
type seen struct {
	Step string

	Name, User, Content string // of a message
	Attributes, Buttons []string
	Images              int

	Text          string // of a complaint
	Left          string
	Kept          int
	Alice, Mod    int
	Before, After int // seconds that remain
	Lasted        int // ms
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

// next is what is seen next, which has to be this step.
func (b browser) next(t testing.TB, step string) seen {
	t.Helper()
	v := b.see(t)
	require.Equal(t, step, v.Step, "%+v", v)
	v.Step = ""
	return v
}

// TestPage is a conversation of two people who use the page, in Chromium.
func TestPage(t *testing.T) {
	t.Parallel()
	needPage(t)
	s := startServer(t)
	screenshots := t.TempDir()
	b := startBrowser(t, s, "chat", screenshots)

	const mod = `<b onclick="alert(1)">Mo</b>`
	said := seen{Name: "Alice", User: "alice-1", Content: "Hello, is anybody here?", Buttons: []string{}, Attributes: []string{}}
	toMod := said
	toMod.Buttons = []string{"Delete", "Disconnect"}
	assert.Equal(t, toMod, b.next(t, "alice to mod"))
	assert.Equal(t, said, b.next(t, "alice to alice"))
	said.Name, said.User, said.Content = mod, "mod-1", "<img src=x onerror=alert(1)> welcome, שלום"
	assert.Equal(t, said, b.next(t, "mod to alice"), "text, and no markup")
	assert.Equal(t, seen{Left: "-1", Kept: 1002}, b.next(t, "too long")) // in UTF-16
	assert.Equal(t, seen{}, b.next(t, "deleted"), "how often the deleted message is still shown")
	clock := b.next(t, "remaining")
	assert.InDelta(t, 3600, clock.Before, 60)
	assert.Less(t, clock.After, clock.Before)
	assert.Equal(t, seen{Form: true}, b.next(t, "disconnected"))
	b.next(t, "done")

	for _, name := range []string{"join.png", "light.png", "dark.png", "disconnected.png"} {
		checkScreenshot(t, filepath.Join(screenshots, name))
	}
}

// TestPageRestart kills the server under the page, which comes back with a fresh
// token when there is a server again.
func TestPageRestart(t *testing.T) {
	t.Parallel()
	needPage(t)
	first := startServer(t, "-listen", valkeytest.FreeAddress(t))
	b := startBrowser(t, first, "restart", t.TempDir())
	b.next(t, "joined")
	first.kill()
	b.next(t, "lost")
	startServer(t, "-listen", first.address())
	assert.Equal(t, "what was that?", b.next(t, "back").Content)
	b.next(t, "done")
}

// TestPageSessionEnd lets a session of a minute end. It shows the attributes that
// /join does not give, too.
func TestPageSessionEnd(t *testing.T) {
	t.Parallel()
	needPage(t)
	s := startServer(t)
	b := startBrowser(t, s, "sessionEnd", t.TempDir())
	begun := b.next(t, "begun")
	assert.LessOrEqual(t, begun.Before, 60)
	assert.Equal(t, "Alice", begun.Name)
	assert.Equal(t, []string{"badge: gold"}, begun.Attributes)
	renewed := b.next(t, "renewed")
	assert.GreaterOrEqual(t, renewed.Lasted, 59_000) // its first second may be a part of one
	assert.Greater(t, renewed.After, 60)
	assert.Equal(t, []string{}, b.next(t, "said").Attributes, "it is another token")
	b.next(t, "done")
}

// see is the next thing that a script of the page reports.
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

// checkScreenshot sees that the page was drawn: it has the size of the window, a
// ground that covers most of it, and text, which has many shades on it.
func checkScreenshot(t testing.TB, name string) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	img, _, err := image.Decode(file)
	require.NoError(t, err)
	assert.Equal(t, image.Rect(0, 0, 760, 620), img.Bounds())
	pixels, most := map[uint32]int{}, 0
	for y := range 620 {
		for x := range 760 {
			r, g, b, _ := img.At(x, y).RGBA()
			shade := (r>>8)<<16 | (g>>8)<<8 | b>>8
			pixels[shade]++
			most = max(most, pixels[shade])
		}
	}
	assert.Greater(t, len(pixels), 50, name)
	assert.Less(t, most, 760*620*95/100, name)
	assert.Greater(t, most, 760*620/4, name)
}
