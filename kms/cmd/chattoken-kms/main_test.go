package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUsage(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	const key = "aws-kms://arn:aws:kms:us-west-2:111122223333:key/1"
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		status int
		want   string
	}{
		"nothing":        {nil, "", 2, "Usage: chattoken-kms URI"},
		"two":            {[]string{key, key}, "", 2, "Usage: "},
		"flag":           {[]string{"--verbose"}, "", 2, "Usage: "},
		"not a URI":      {[]string{"key"}, "", 1, "chattoken-kms: kms: not the URI of a key"},
		"no request":     {[]string{key}, "", 1, "not a request of this version"},
		"other version":  {[]string{key}, "chattoken-kek-2\nwrap\nAAAA\n", 1, "not a request of this version"},
		"another's ring": {[]string{key}, "chattoken-kek-1\nunwrap\nlocal-0011223344556677\nAAAA\n", 1, `sealed under the KEK "local-0011223344556677"`},
	} {
		var stdout, stderr strings.Builder
		status := run(t.Context(), test.args, strings.NewReader(test.stdin), &stdout, &stderr)
		assert.Equal(t, test.status, status, name)
		assert.Empty(t, stdout.String(), name)
		assert.Contains(t, stderr.String(), test.want, name)
	}
}

func TestHelp(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		var stdout, stderr strings.Builder
		assert.Zero(t, run(t.Context(), []string{flag}, nil, &stdout, &stderr), flag)
		assert.Equal(t, usage, stdout.String(), flag)
		assert.Empty(t, stderr.String(), flag)
	}
}
