package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// liveMemory returns the bytes of heap and stacks in use, just after a garbage
// collection.
func (s *server) liveMemory(ctx context.Context) (int64, error) {
	first, err := s.vars(ctx)
	if err != nil {
		return 0, err
	}
	for v := first; ; {
		// Twice, so that it doesn't count what was freed meanwhile.
		if v.Memory.Collections >= first.Memory.Collections+2 {
			return v.Memory.Heap + v.Memory.Stacks, nil
		}
		if err := s.makeGarbage(ctx); err != nil {
			return 0, err
		}
		if v, err = s.vars(ctx); err != nil {
			return 0, err
		}
	}
}

// makeGarbage has the server read bodies and refuse them, because only garbage
// makes it collect garbage.
func (s *server) makeGarbage(ctx context.Context) error {
	return inParallel(parallel, func(int) error {
		return s.do(ctx, http.MethodPost, "http://"+s.address+"/join", strings.NewReader(strings.Repeat(" ", 60<<10)), nil)
	})
}

// vars is what the load needs of /debug/vars.
type vars struct {
	Memory struct{ Heap, Stacks, Collections int64 }
}

func (s *server) vars(ctx context.Context) (vars, error) {
	var reply struct{ Chattoken vars }
	err := s.do(ctx, http.MethodGet, s.numbers, nil, &reply)
	return reply.Chattoken, err
}

// do sends a request and reads the reply as JSON into v, if there is one.
func (s *server) do(ctx context.Context, method, url string, body io.Reader, v any) error {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if v == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(v)
}
