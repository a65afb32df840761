package valkey

import (
	"strconv"
	"strings"
)

// info is the reply to INFO: values by name.
type info map[string]string

func parseInfo(text string) info {
	in := make(info)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			in[name] = value
		}
	}
	return in
}

func (in info) cluster() bool { return in["cluster_enabled"] == "1" }

// fit returns why a server cannot be relied on, or nil if it can.
func (c *Config) fit(in info) error {
	major, _, _ := strings.Cut(in["redis_version"], ".")
	version, _ := strconv.Atoi(major)
	switch {
	case in["loading"] == "1":
		return ErrLoading
	case in["run_id"] == "" || in["master_replid"] == "" || version == 0:
		return ErrReply
	case version < 7:
		return ErrVersion
	case in["role"] != "master":
		return ErrReadOnly
	case in["maxmemory_policy"] != "noeviction" && !c.AcceptEviction:
		return ErrEviction
	case in["aof_enabled"] != "1" && !c.AcceptNoAppendOnlyFile:
		return ErrNoAppendOnlyFile
	}
	return nil
}

// identity names a process and the history of its data. A restart and a failover
// change the run ID. To be made a replica, and a primary again, changes the
// replication ID. To forget a key for want of memory changes the count of evictions.
func (c *Config) identity(in info) string {
	id := in["run_id"] + "-" + in["master_replid"]
	if !c.AcceptEviction {
		id += "-" + in["evicted_keys"]
	}
	return id
}
