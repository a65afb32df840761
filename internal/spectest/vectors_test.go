package spectest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/vectors"
)

// vectorCase is a question about a vector, and the right answer.
type vectorCase struct {
	name    string
	request map[string]any
	want    reply

	// ignoreClaims is for vectors that say only that the token opens.
	ignoreClaims bool
}

// ask returns the answer, without what the vector leaves open.
func (c *vectorCase) ask(t *testing.T, p *python) reply {
	got := p.answer(t, c.request)
	if c.ignoreClaims {
		return reply{Error: got.Error, Reason: got.Reason}
	}
	return got
}

// vectorCases makes requests of the vectors' members.
func vectorCases(t *testing.T) (all []vectorCase) {
	t.Helper()
	v, err := vectors.Read()
	require.NoError(t, err)
	add := func(op, name string, vector any, want reply) {
		request := members(t, vector)
		request["op"] = op
		all = append(all, vectorCase{name: op + ": " + name, request: request, want: want})
	}
	for _, v := range v.Derivations {
		add("derive", v.Name, v, reply{Key: v.Key, KeyID: v.KeyID})
	}
	for _, v := range v.Valid {
		want := reply{IssuedAt: v.IssuedAt, TTL: v.TTL, TokenID: token.ID(v.Nonce[:16]).String(), Payload: v.Payload}
		require.NoError(t, json.Unmarshal(v.Claims, &want.Claims))
		want.TokenExpiration = v.IssuedAt + v.TTL
		want.SessionExpiration = v.IssuedAt + int64(want.Claims.SessionDuration()/time.Second)
		add("open", v.Name, v, want)
		mint := vectors.Mint{
			Name: v.Name, Secret: v.Secret, MaxTTL: 600, ClockSkew: 5, Context: v.Context, Now: v.IssuedAt, TTL: v.TTL,
			AnyRoom: true, Claims: v.Claims, Nonce: v.Nonce,
		}
		add("mint", v.Name, mint, reply{Token: v.Token, TokenExpiration: want.TokenExpiration, SessionExpiration: want.SessionExpiration})
	}
	for _, v := range v.Invalid {
		add("open", v.Name, v, reply{Reason: reason(v.Reason)})
	}
	for _, v := range v.Opens {
		if add("open", v.Name, v, reply{Reason: reason(v.Reason)}); v.Reason == "" {
			all[len(all)-1].ignoreClaims = true
		}
	}
	for _, v := range v.Mints {
		refused := v.Error + strings.Join(v.Fields, ",")
		add("mint", v.Name, v, reply{
			Token: v.Token, TokenExpiration: v.TokenExpiration, SessionExpiration: v.SessionExpiration, Reason: reason(refused),
		})
	}
	for _, v := range v.KEKs {
		add("kek", v.Name, v, reply{Reason: reason(v.Reason), Key: v.Key, KEKID: v.KEKID})
	}
	for _, v := range v.Rings {
		add("load", v.Name, v, reply{Serial: v.Serial, Keys: v.Keys})
	}
	for _, v := range v.Loads {
		add("load", v.Name, v, reply{Reason: reason(v.Reason), Serial: v.Serial})
	}
	for _, v := range v.Authorizations {
		add("authorize", v.Name, v, reply{Reason: reason(v.Reason)})
	}
	return all
}

func members(t *testing.T, vector any) (m map[string]any) {
	t.Helper()
	data, err := json.Marshal(vector)
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // serials do not fit into a float64
	require.NoError(t, d.Decode(&m))
	return m
}

func (p *python) testVectors(t *testing.T) {
	cases := vectorCases(t)
	require.Greater(t, len(cases), 600)
	for _, c := range cases {
		assert.Equal(t, c.want, c.ask(t, p), c.name)
	}
}

// TestLenient checks that the vectors notice each fault.
func TestLenient(t *testing.T) {
	p := startPython(t, "lenient.py")
	cases := vectorCases(t)
	leniences := p.ask(t, request{Op: "leniences"}).Names
	require.Greater(t, len(leniences), 80)
	p.ask(t, map[string]string{"op": "lenient", "name": "nothing"})
	require.Empty(t, p.firstFault(t, cases, ""))
	for _, name := range leniences {
		p.ask(t, map[string]string{"op": "lenient", "name": name})
		ops, _, _ := strings.Cut(name, ":")
		for op := range strings.FieldsSeq(ops) {
			if caught := p.firstFault(t, cases, op+":"); caught == "" {
				t.Errorf("no vector notices %q when asked to %s", name, op)
			} else {
				t.Logf("%s: noticed by %s", name, caught)
			}
		}
	}
}

// firstFault returns the name of the first vector of an operation that gets a
// wrong answer. It passes over those at which Python raises an exception,
// because another language might not.
func (p *python) firstFault(t *testing.T, cases []vectorCase, op string) string {
	t.Helper()
	for _, c := range cases {
		if !strings.HasPrefix(c.name, op) {
			continue
		}
		if got := c.ask(t, p); got.Error == "" && !assert.ObjectsAreEqual(c.want, got) {
			return c.name
		}
	}
	return ""
}

// TestMembers checks that SPEC.md mentions every member and every reason of the
// vectors.
func TestMembers(t *testing.T) {
	data, err := os.ReadFile("../../SPEC.md")
	require.NoError(t, err)
	spec, _, _ := strings.Cut(string(data), "\n# Part II")
	files, err := fs.Glob(vectors.Files, "*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		assert.True(t, strings.Contains(spec, "`vectors/"+name+"`"), name)
		data, err := vectors.Files.ReadFile(name)
		require.NoError(t, err)
		var groups map[string]any
		require.NoError(t, json.Unmarshal(data, &groups))
		delete(groups, "comment")
		requireNamed(t, spec, groups)
	}
}

func requireNamed(t *testing.T, spec string, value any) {
	t.Helper()
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			requireNamed(t, spec, v)
		}
	case map[string]any:
		for name, v := range value {
			require.True(t, strings.Contains(spec, "`"+name+"`"), "member %s", name)
			switch name {
			case "reason", "error":
				require.True(t, strings.Contains(spec, fmt.Sprintf("`%s`", v)), "%s %s", name, v)
			case "claims": // with attributes of any name
			default:
				requireNamed(t, spec, v)
			}
		}
	}
}
