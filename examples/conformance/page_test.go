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
)

// seen is what page.mjs reports of the page.
type seen struct {
	Step string

	Name, User, Content string // of a message
	Buttons             []string
	Images              int

	Text          string // of a complaint
	Left          string
	Kept          int
	Alice, Mod    int
	Before, After int
	Form          bool
	Notice        int
}

// TestPage is a conversation of two people who use the page, in Chromium.
func TestPage(t *testing.T) {
	t.Parallel()
	needFile(t, chromium, "chromium")
	needNode(t)
	s := startServer(t, "-listen", "127.0.0.1:0")
	screenshots := t.TempDir()
	if keep := os.Getenv("CHATTOKEN_SCREENSHOTS"); keep != "" {
		screenshots = keep
	}
	browser := startScript(t, "node", "page.mjs", s.url, chromium, screenshots)
	next := func(step string) seen {
		t.Helper()
		v := browser.see(t)
		require.Equal(t, step, v.Step, "%+v", v)
		v.Step = ""
		return v
	}

	const mod = `<b onclick="alert(1)">Mo</b>`
	said := seen{Name: "Alice", User: "alice-1", Content: "Hello, is anybody here?", Buttons: []string{}}
	toMod := said
	toMod.Buttons = []string{"Delete", "Disconnect"}
	assert.Equal(t, toMod, next("alice to mod"))
	assert.Equal(t, said, next("alice to alice"))
	assert.Equal(t, seen{Name: mod, User: "mod-1", Content: "<img src=x onerror=alert(1)> welcome, שלום", Buttons: []string{}},
		next("mod to alice"), "text, and no markup")
	assert.Equal(t, seen{Left: "-1", Kept: 1002}, next("too long")) // in UTF-16
	assert.Equal(t, seen{}, next("deleted"), "how often the deleted message is still shown")
	clock := next("remaining")
	assert.InDelta(t, 3600, clock.Before, 60)
	assert.Less(t, clock.After, clock.Before)
	assert.Equal(t, seen{Form: true, Notice: 1}, next("disconnected"))
	next("done")

	for _, name := range []string{"join.png", "light.png", "dark.png", "disconnected.png"} {
		checkScreenshot(t, filepath.Join(screenshots, name))
	}
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
