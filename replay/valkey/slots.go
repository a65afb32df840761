package valkey

import (
	"net"
	"slices"
	"strconv"

	client "github.com/valkey-io/valkey-go"
)

// slots is how many slots a Cluster has.
const slots = 1 << 14

// slotRange is the slots from first to last, which the server at address has.
type slotRange struct {
	first, last int
	address     string
}

// slotRanges reads the reply to CLUSTER SLOTS of the server at address. The ranges
// are in ascending order.
func slotRanges(reply client.ValkeyResult, address string) ([]slotRange, error) {
	entries, err := reply.ToArray()
	if err != nil {
		return nil, reason(err)
	}
	ranges := make([]slotRange, 0, len(entries))
	for _, entry := range entries {
		r, ok := parseSlotRange(entry, address)
		if !ok {
			return nil, ErrReply
		}
		ranges = append(ranges, r)
	}
	if len(ranges) == 0 {
		return nil, ErrCluster
	}
	slices.SortFunc(ranges, func(a, b slotRange) int { return a.first - b.first })
	return ranges, nil
}

// parseSlotRange reads [first, last, [host, port, …] of the primary, …].
func parseSlotRange(entry client.ValkeyMessage, address string) (r slotRange, ok bool) {
	fields, err := entry.ToArray()
	if err != nil || len(fields) < 3 {
		return r, false
	}
	first, err1 := fields[0].ToInt64()
	last, err2 := fields[1].ToInt64()
	primary, err3 := fields[2].ToArray()
	if err1 != nil || err2 != nil || err3 != nil || len(primary) < 2 || first < 0 || first > last || last >= slots {
		return r, false
	}
	host, _ := primary[0].ToString()
	if host == "" { // means that of the server that was asked
		host, _, _ = net.SplitHostPort(address)
	}
	port, err := primary[1].ToInt64()
	return slotRange{int(first), int(last), net.JoinHostPort(host, strconv.Itoa(int(port)))}, err == nil
}

// keySlot returns the slot of a key in a Cluster: the CRC-16 (XMODEM) of the key, or
// of what is in its first pair of braces, if there is anything. A token ID is random,
// so it may have braces.
func keySlot(key []byte) uint16 {
	if i := slices.Index(key, '{'); i >= 0 {
		if j := slices.Index(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	crc := uint16(0)
	for _, b := range key {
		crc = crc<<8 ^ crc16[byte(crc>>8)^b]
	}
	return crc % slots
}

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
		table[i] = crc
	}
	return table
}()

// slotTag returns the least number whose decimal digits, as a key, have that slot.
// Between braces in a name they make it a key of the slot.
func slotTag(slot int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); int(keySlot([]byte(tag))) == slot {
			return tag
		}
	}
}
