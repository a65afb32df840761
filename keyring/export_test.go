package keyring

// What the tests need to make rings that this package would not.
var (
	Derive = derive
	Seal   = seal
)

// Snapshot returns what the ring holds behind its atomic pointer, past which no
// dumper looks.
func (r *Ring) Snapshot() any { return r.load() }
