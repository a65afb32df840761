package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// table returns the result in Markdown, ratios first.
func (m *measurement) table() string {
	var b strings.Builder
	row := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%d connections in %d rooms, opened %d times over; %d messages in each room. %s, with the clients on the same machine: %s/%s, %d processors, %s.\n\n",
		m.plan.connections, m.plan.rooms, m.plan.rounds, m.plan.messages,
		time.Now().UTC().Format("2006-01-02"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	b.WriteString("| ratios | |\n|---|--:|\n")
	row("sealing, opening and spending tokens: share of the server's CPU", "%s", share(m.cpu.all.tokens, m.cpu.all.total))
	row("opening and spending: of what the gateway takes to let clients in", "%s", share(m.cpu.connecting.tokens, m.cpu.connecting.total))
	row("sealing: of what CreateChatToken takes", "%s", share(m.cpu.minting.tokens, m.cpu.minting.total))
	row("reading its JSON (`claims.ParseJSON`): of what CreateChatToken takes", "%s", share(m.cpu.minting.json, m.cpu.minting.total))
	row("connecting: the slowest hundredth to the median", "%.1f", ratio(m.connecting.quantile(0.99), m.connecting.quantile(0.5)))
	row("a message to everyone in the room: the slowest hundredth to the median", "%.1f", ratio(m.fanout.quantile(0.99), m.fanout.quantile(0.5)))
	b.WriteString("\n| this run, this machine | |\n|---|--:|\n")
	row("connections a second", "%.0f", m.perSecond)
	row("connecting, p99", "%s", round(m.connecting.quantile(0.99)))
	row("a message to everyone in the room, p99", "%s", round(m.fanout.quantile(0.99)))
	row("memory of the server for a connection, heap and stacks", "%.1f KiB", m.memory/1024)
	return b.String()
}

func share(part, all int64) string {
	return fmt.Sprintf("%.1f %% (%d of %d samples)", 100*float64(part)/float64(max(all, 1)), part, all)
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

var errNoMarkers = errors.New("the file has no markers for the table")

// replaceTable puts the table in its place in a file.
func replaceTable(name, table string) error {
	const begin, end = "<!-- load: begin -->\n", "<!-- load: end -->"
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(data, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return errNoMarkers
	}
	return os.WriteFile(name, fmt.Appendf(nil, "%s%s%s%s%s", before, begin, table, end, after), 0o644)
}
