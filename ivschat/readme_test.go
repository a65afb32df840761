package ivschat_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

// README.md has the table of endings as the package's documentation has it,
// whose rows the conformance suite tries.
func TestEndingsInReadme(t *testing.T) {
	source, err := os.ReadFile("server.go")
	require.NoError(t, err)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^//\t(\S.*?)  +(\S.*?)  +(\S.*)$`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, rows)
	var table strings.Builder
	for _, row := range rows {
		table.WriteString("| " + strings.Join(row[1:], " | ") + " |\n")
	}
	assert.Contains(t, string(readme), "|---|---|---|\n"+table.String()+"\n")
}

func TestConfigInReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, found)
	registry, err := ivschat.ParseRegistry(found[1])
	require.NoError(t, err)
	assert.Len(t, registry.Rooms, 1)
	assert.Len(t, registry.Credentials, 1)
}

// AWS-DEMO.md has the demonstration's room and credentials.
func TestDemoInDocument(t *testing.T) {
	document, err := os.ReadFile("AWS-DEMO.md")
	require.NoError(t, err)
	demo := ivschat.Demo()
	for _, text := range []string{demo.Region, demo.Rooms[0], demo.Credentials[0].AccessKeyID, demo.Credentials[0].SecretAccessKey} {
		assert.Contains(t, string(document), text)
	}
}
