package vectors_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/seed17cb2b26/chattoken/vectors"
)

const (
	maxTime   = 253402300799
	maxSerial = 1<<63 - 1
)

// loader collects the vectors of rings to load.
type loader struct{ all []vectors.Ring }

func (l *loader) add(name, reason string, e *envelope, serial uint64) *vectors.Ring {
	return l.addSealed(name, reason, e.context, e.seal(), serial)
}

func (l *loader) addSealed(name, reason, context string, sealed []byte, serial uint64) *vectors.Ring {
	if reason != "" {
		serial = 0
	}
	l.all = append(l.all, vectors.Ring{
		Name: name, Reason: reason, KEK: kekText(random("kek", 32)), Context: []byte(context), Sealed: sealed, Serial: serial,
	})
	return &l.all[len(l.all)-1]
}

func makeLoads() []vectors.Ring {
	l := &loader{}
	l.good()
	l.format()
	l.kek()
	l.forged()
	l.context()
	l.encoding()
	l.content()
	l.serials()
	return l.all
}

// changed returns the house, changed by f.
func changed(f func(*ring)) ring {
	r := house()
	f(&r)
	return r
}

// small returns the pair, changed by f.
func small(f func(*ring)) ring {
	r := pair()
	f(&r)
	return r
}

// makeRings loads the house at the moments at which states change.
func makeRings() (all []vectors.Ring) {
	for _, c := range []struct {
		name   string
		now    int64
		states string // of the chain's keys
	}{
		{"a key of each state", base, "expired retired primary pending"},
		{"a second before a key activates", base - 31, "expired primary pending pending"},
		{"as a key activates", base - 30, "expired retired primary pending"},
		{"a second before a key expires", base + 39, "expired retired primary pending"},
		{"as a key expires", base + 40, "expired expired primary pending"},
		{"long before", 1, "primary pending pending pending"},
		{"long after", base + 2000*day, "expired expired expired primary"},
		{"by a clock of 1969", -1, "primary pending pending pending"},
		{"by a clock of the year 10000", maxTime + 1, "expired expired expired primary"},
	} {
		r := house()
		v := vectors.Ring{
			Name: c.name, KEK: kekText(random("kek", 32)), Context: []byte(production), Now: c.now,
			Sealed: newEnvelope("rings", production, r.encode()).seal(), Serial: r.serial,
		}
		states := append(strings.Fields(c.states), "revoked", "revoked")
		for i, k := range slices.Concat(r.chain, r.revoked) {
			times := [5]int64{}
			for j, at := range k.times {
				times[j] = int64(at)
			}
			v.Keys = append(v.Keys, vectors.Key{
				KeyID: idOf(k.secret, production), State: states[i],
				Created: times[0], Activates: times[1], Retires: times[2], Expires: times[3], Revoked: times[4],
			})
		}
		all = append(all, v)
	}
	return all
}

// pair returns the house without what most vectors don't need.
func pair() ring {
	return changed(func(r *ring) {
		r.chain, r.revoked = r.chain[2:], r.revoked[:1]
		r.chain[0].times[1] = 0
	})
}

func (l *loader) good() {
	l.add("a key of each state", "", newEnvelope("good", production, house().encode()), 7)
	l.add("a key of each state, form 1", "", newEnvelope("good, form 1", production, house().encode()).asForm1(), 7)
	l.add("one key, no context", "", newEnvelope("one key", "", single(secret("one"), 60, 5).encode()), 1)
	l.add("longest context, bytes that are not UTF-8", "", newEnvelope("long", strings.Repeat("\xff", 255), house().encode()), 7)
	for _, c := range []struct {
		name string
		f    func(*ring)
	}{
		{"policy: least of all", func(r *ring) { r.policy = [4]uint64{5, 1, 2, 2} }},
		{"policy: most of all", func(r *ring) {
			r.policy = [4]uint64{600, 60, 366 * day, 366 * day}
			for i := range r.chain[:3] {
				r.chain[i].times[3] = r.chain[i].times[2] + 720
			}
		}},
		{"policy: lead is clockSkew + 1", func(r *ring) { r.policy[3] = 6 }},
		{"policy: lead is 2^8 + 3", func(r *ring) { r.policy[3] = 1<<8 + 3 }},
		{"policy: lead is 2^16 + 3", func(r *ring) { r.policy[3] = 1<<16 + 3 }},
		{"policy: period is 2^16 + 3", func(r *ring) { r.policy[2] = 1<<16 + 3 }},
		{"policy: maxTTL less than clockSkew + 5", func(r *ring) { r.policy = [4]uint64{5, 30, 30 * day, hour} }},
		{"expires later than it has to", func(r *ring) { r.chain[0].times[3] += 1000 }},
		{"created in the last second of 9999", func(r *ring) { r.chain[3].times[0] = maxTime }},
		{"activates in the last second of 9999", func(r *ring) {
			r.chain = r.chain[2:]
			r.chain[0].times = [5]uint64{0, 0, maxTime - 70, maxTime, 0}
			r.chain[1].times[1] = maxTime - 70
		}},
		{"revoked key of any times", func(r *ring) { r.revoked[0].times = [5]uint64{9, 8, 7, 1, maxTime} }},
		{"serial 1", func(r *ring) { r.serial = 1 }},
		{"serial 23", func(r *ring) { r.serial = 23 }},
		{"serial 24", func(r *ring) { r.serial = 24 }},
		{"serial 255", func(r *ring) { r.serial = 255 }},
		{"serial 256", func(r *ring) { r.serial = 256 }},
		{"serial 65535", func(r *ring) { r.serial = 65535 }},
		{"serial 65536", func(r *ring) { r.serial = 65536 }},
		{"serial 2^32 - 1", func(r *ring) { r.serial = 1<<32 - 1 }},
	} {
		r := changed(c.f)
		l.add(c.name, "", newEnvelope(c.name, production, r.encode()), r.serial)
	}
}

func (l *loader) format() {
	add := func(name string, sealed []byte) { l.addSealed("format: "+name, "format", production, sealed, 0) }
	e := newEnvelope("format", production, pair().encode())
	whole, header := e.seal(), len(e.header())
	add("empty", []byte{})
	for name, n := range map[string]int{
		"within the name": 9, "before the form": 17, "before n1": 18, "within the KEK ID": 25, "within n2": 42,
		"within the wrapped key": 80, "before the nonce": header, "within the nonce": header + 23,
	} {
		add("cut off "+name, whole[:n])
	}
	slices.SortFunc(l.all[len(l.all)-8:], func(a, b vectors.Ring) int { return len(a.Sealed) - len(b.Sealed) })
	for _, c := range []struct {
		name string
		edit func(*envelope)
	}{
		{"another name", func(e *envelope) { e.magic = "chattoken-keyrinG" }},
		{"form 0", func(e *envelope) { e.form = 0 }},
		{"form 3", func(e *envelope) { e.form = 3 }},
		{"form in ASCII", func(e *envelope) { e.form = '2' }},
		{"KEK ID empty", func(e *envelope) { e.kekID = "" }},
		{"wrapped key empty", func(e *envelope) { e.wrapped = []byte{} }},
	} {
		e := newEnvelope("format: "+c.name, production, pair().encode())
		c.edit(e)
		add(c.name, e.seal())
	}
	add("in hexadecimal", fmt.Appendf(nil, "%x", whole))
	add("a line feed before", append([]byte("\n"), whole...))
}

func (l *loader) kek() {
	foreign := bytes.Repeat([]byte{7}, 32)
	for _, c := range []struct {
		name string
		edit func(*envelope)
	}{
		{"another KEK and its ID", func(e *envelope) {
			e.kekID = "local-" + fmt.Sprintf("%x", expand(foreign, kekIDLabel, 8))
			e.wrapKey, e.wrapAAD = expand(foreign, kekLabel, 32), e.kekID
		}},
		{"another KEK under this ID", func(e *envelope) { e.wrapKey = expand(foreign, kekLabel, 32) }},
		{"this KEK under another ID", func(e *envelope) { e.kekID = "local-0123456789abcdef"; e.wrapAAD = e.kekID }},
		{"ID in capitals", func(e *envelope) { e.kekID = strings.ToUpper(e.kekID) }},
		{"ID without local-", func(e *envelope) { e.kekID = e.kekID[6:] }},
		{"ID with a character more", func(e *envelope) { e.kekID += "0" }},
		{"AAD empty", func(e *envelope) { e.wrapAAD = "" }},
		{"AAD is the text of the KEK", func(e *envelope) { e.wrapAAD = kekText(e.kek) }},
		{"KEK not derived", func(e *envelope) { e.wrapKey = e.kek }},
		{"label without 0x00", func(e *envelope) { e.wrapKey = expand(e.kek, strings.TrimSuffix(kekLabel, "\x00"), 32) }},
		{"data key all zero", func(e *envelope) { e.dataKey = make([]byte, 32) }},
		{"data key of 31 bytes", func(e *envelope) { e.dataKey = e.dataKey[:31] }},
		{"data key of 33 bytes", func(e *envelope) { e.dataKey = append(e.dataKey, 0) }},
		{"data key in clear", func(e *envelope) { e.wrapped = e.dataKey }},
		{"wrapped key without its tag", func(e *envelope) { e.header(); e.wrapped = e.wrapped[:56] }},
		{"wrapped key shorter than a nonce", func(e *envelope) { e.header(); e.wrapped = e.wrapped[:23] }},
		{"byte after the wrapped key", func(e *envelope) { e.header(); e.wrapped = append(e.wrapped, 0) }},
		{"first bit of the wrapped key's nonce", func(e *envelope) { e.header(); e.wrapped[0] ^= 0x80 }},
		{"bit of the wrapped key", func(e *envelope) { e.header(); e.wrapped[30] ^= 1 }},
		{"last bit of the wrapped key's tag", func(e *envelope) { e.header(); e.wrapped[71] ^= 1 }},
	} {
		e := newEnvelope("kek: "+c.name, production, pair().encode())
		c.edit(e)
		l.add("kek: "+c.name, "kek", e, 0)
	}
	e := newEnvelope("kek: two faults", production, pair().encode())
	e.header()
	e.wrapped[30] ^= 1
	sealed := e.seal()
	sealed[len(sealed)-1] ^= 1
	l.addSealed("kek: two faults, wrapped key and tag", "kek", production, sealed, 0)
}

func (l *loader) forged() {
	e := newEnvelope("forged", production, pair().encode())
	whole, header := e.seal(), len(e.header())
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"first bit of the nonce", func(b []byte) []byte { b[header] ^= 0x80; return b }},
		{"first bit of the ciphertext", func(b []byte) []byte { b[header+24] ^= 0x80; return b }},
		{"last bit of the tag", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"last byte cut off", func(b []byte) []byte { return b[:len(b)-1] }},
		{"byte after the tag", func(b []byte) []byte { return append(b, 0) }},
		{"nothing after the nonce", func(b []byte) []byte { return b[:header+24] }},
		{"15 bytes after the nonce", func(b []byte) []byte { return b[:header+24+15] }},
		{"form 2 that says form 1", func(b []byte) []byte { b[17] = 1; return b }},
	} {
		l.addSealed("forged: "+c.name, "forged", production, c.change(bytes.Clone(whole)), 0)
	}
	for _, c := range []struct {
		name string
		edit func(*envelope)
	}{
		{"AAD empty", func(e *envelope) { e.aad = []byte{} }},
		{"AAD is the name only", func(e *envelope) { e.aad = []byte(e.magic) }},
		{"AAD with the nonce", func(e *envelope) { e.aad = append(e.header(), e.nonce...) }},
		{"form 1 that says form 2", func(e *envelope) { e.asForm1(); e.aad = e.header(); e.form = 2 }},
	} {
		e := newEnvelope("forged: "+c.name, production, pair().encode())
		c.edit(e)
		l.add("forged: "+c.name, "forged", e, 0)
	}
}

func (l *loader) context() {
	add := func(name, context string, e *envelope) *vectors.Ring {
		return l.addSealed("context: "+name, "context", context, e.seal(), 0)
	}
	of := func(name, context string) *envelope {
		return newEnvelope("context: "+name, context, pair().encode())
	}
	add("another one", "chat.example.com staging", of("another", production))
	add("none, where there is one", "", of("none", production))
	add("one, where there is none", production, of("one", ""))
	add("the beginning of it", production[:4], of("beginning", production))
	add("with a NUL after", production+"\x00", of("NUL", production))
	e := of("zero", production)
	e.prefix = strings.Repeat("\x00", 32)
	add("digest of zeros", production, e)
	e = of("last bit", production)
	e.prefix = e.prefix[:31] + string([]byte{e.prefix[31] ^ 1})
	add("last bit of the digest", production, e)
	e = newEnvelope("context: two faults", production, "")
	add("two faults, no document", "another", e)
	add("form 1, which the host refuses", production, of("form 1", production).asForm1()).RefuseForm1 = true
	l.add("form 2, where the host refuses form 1", "", of("form 2", production), 7).RefuseForm1 = true
	// Form 1 has no context, so it loads under any.
	l.addSealed("form 1 under another context", "", "another", of("form 1, another", production).asForm1().seal(), 7)
}

// encoding has documents with another encoding, or with other types.
func (l *loader) encoding() {
	add := func(name, document string) {
		l.add("document: "+name, "document", newEnvelope("document: "+name, production, document), 0)
	}
	good := pair()
	whole := good.encode()
	policy := array(uints(60), uints(5), uints(30*day), uints(hour))
	chain := array(good.chain[0].encode(), good.chain[1].encode())
	revoked := array(good.revoked[0].encode())
	e := newEnvelope("document: short", production, "")
	e.prefix = e.prefix[:31]
	l.add("document: shorter than the digest", "document", e, 0)
	l.add("document: form 1 with the digest", "document", func() *envelope {
		e := newEnvelope("document: digest", production, whole)
		e.form = 1
		return e
	}(), 0)
	add("empty", "")
	add("cut off", whole[:len(whole)-1])
	add("trailing byte", whole+"\x00")
	add("stray break", whole+"\xff")
	add("twice", whole+whole)
	add("array of three", array(uints(7), policy, chain))
	add("array of five", array(uints(7), policy, chain, revoked, array()))
	add("array of indefinite length", "\x9f"+whole[1:]+"\xff")
	add("array with a long head", "\x98\x04"+whole[1:])
	add("array with a head of 2 bytes", "\x99\x00\x04"+whole[1:])
	add("array with a head of 4 bytes", "\x9a\x00\x00\x00\x04"+whole[1:])
	add("array with a head of 8 bytes", "\x9b\x00\x00\x00\x00\x00\x00\x00\x04"+whole[1:])
	add("array with a tag", "\xd9\xd9\xf7"+whole)
	add("map instead of the array", "\xa2"+whole[1:])
	add("serial with a long head", array("\x18\x07", policy, chain, revoked))
	for _, n := range edges {
		if n < 1<<32 {
			add(fmt.Sprintf("serial %d with a longer head", n), array(longer(0, n), policy, chain, revoked))
		}
	}
	add("serial with a longer head", array("\x1b\x00\x00\x00\x00\x00\x00\x00\x07", policy, chain, revoked))
	add("serial null", array("\xf6", policy, chain, revoked))
	add("serial as float", array("\xf9\x47\x00", policy, chain, revoked))
	add("serial negative", array("\x26", policy, chain, revoked))
	add("serial as bignum", array("\xc2\x41\x07", policy, chain, revoked))
	add("serial as text", array("\x617", policy, chain, revoked))
	add("policy of three", array(uints(7), array(uints(60), uints(5), uints(30*day)), chain, revoked))
	add("policy of five", array(uints(7), array(uints(60), uints(5), uints(30*day), uints(hour), uints(0)), chain, revoked))
	add("policy null", array(uints(7), "\xf6", chain, revoked))
	add("policy: maxTTL with a long head", array(uints(7), array("\x19\x00\x3c", uints(5), uints(30*day), uints(hour)), chain, revoked))
	add("policy: maxTTL negative", array(uints(7), array("\x38\x3b", uints(5), uints(30*day), uints(hour)), chain, revoked))
	add("policy: maxTTL 2^64 - 1", array(uints(7), array(uints(1<<64-1), uints(5), uints(30*day), uints(hour)), chain, revoked))
	add("policy: maxTTL null", array(uints(7), array("\xf6", uints(5), uints(30*day), uints(hour)), chain, revoked))
	add("chain null", array(uints(7), policy, "\xf6", revoked))
	add("chain as map", array(uints(7), policy, "\xa0", revoked))
	add("chain of indefinite length", array(uints(7), policy, "\x9f"+chain[1:]+"\xff", revoked))
	add("chain announces 2^64 - 1", array(uints(7), policy, "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"+chain[1:], revoked))
	add("revoked keys as map", array(uints(7), policy, chain, "\xa0"))
	add("revoked keys null", array(uints(7), policy, chain, "\xf6"))
	add("revoked keys with a long head", array(uints(7), policy, chain, "\x98\x01"+revoked[1:]))
	k := single(secret("one"), 60, 5).chain[0]
	one := func(key string) string { return array(uints(7), policy, array(key), array()) }
	add("key of five", one("\x85"+k.encode()[1:len(k.encode())-1]))
	add("key of seven", one("\x87"+k.encode()[1:]+"\x00"))
	add("key null", one("\xf6"))
	add("secret as text", one("\x86"+text(strings.Repeat("s", 32))+uints(0, 0, 0, 0, 0)))
	add("secret null", one("\x86\xf6"+uints(0, 0, 0, 0, 0)))
	add("secret as array", one("\x86"+head(4, 32)+strings.Repeat("\x01", 32)+uints(0, 0, 0, 0, 0)))
	add("secret with a long head", one("\x86\x59\x00\x20"+k.secret+uints(0, 0, 0, 0, 0)))
	add("secret with a head of 4 bytes", one("\x86\x5a\x00\x00\x00\x20"+k.secret+uints(0, 0, 0, 0, 0)))
	add("secret with a head of 8 bytes", one("\x86\x5b\x00\x00\x00\x00\x00\x00\x00\x20"+k.secret+uints(0, 0, 0, 0, 0)))
	add("secret in chunks", one("\x86\x5f\x58\x20"+k.secret+"\xff"+uints(0, 0, 0, 0, 0)))
	for i, name := range []string{"created", "activates", "retires", "expires", "revoked"} {
		for _, bad := range []struct{ name, item string }{{"null", "\xf6"}, {"negative", "\x20"}, {"with a long head", "\x18\x00"}, {"false", "\xf4"}} {
			items := []string{uints(0), uints(0), uints(0), uints(0), uints(0)}
			items[i] = bad.item
			add(name+" "+bad.name, one("\x86\x58\x20"+k.secret+strings.Join(items, "")))
		}
	}
}

// content has rings that are well encoded, but break a rule.
func (l *loader) content() {
	add := func(name string, r ring) {
		l.add("ring: "+name, "document", newEnvelope("ring: "+name, production, r.encode()), 0)
	}
	for _, c := range []struct {
		name string
		f    func(*ring)
	}{
		{"serial 0", func(r *ring) { r.serial = 0 }},
		{"serial 2^63", func(r *ring) { r.serial = 1 << 63 }},
		{"serial 2^64 - 1", func(r *ring) { r.serial = 1<<64 - 1 }},
		{"maxTTL 4", func(r *ring) { r.policy[0] = 4 }},
		{"maxTTL 601", func(r *ring) {
			r.policy[0] = 601
			for i := range r.chain[:3] {
				r.chain[i].times[3] += 1000
			}
		}},
		{"clockSkew 0", func(r *ring) { r.policy[1] = 0 }},
		{"clockSkew 61", func(r *ring) {
			r.policy[1] = 61
			for i := range r.chain[:3] {
				r.chain[i].times[3] += 1000
			}
		}},
		{"maxTTL 2^16 + 60", func(r *ring) { r.policy[0] = 1<<16 + 60 }},
		{"maxTTL 2^32 + 60", func(r *ring) { r.policy[0] = 1<<32 + 60 }},
		{"clockSkew 2^8 + 5", func(r *ring) { r.policy[1] = 1<<8 + 5 }},
		{"clockSkew 2^16 + 5", func(r *ring) { r.policy[1] = 1<<16 + 5 }},
		{"clockSkew 2^32 + 5", func(r *ring) { r.policy[1] = 1<<32 + 5 }},
		{"clockSkew 2^64 - 1", func(r *ring) { r.policy[1] = 1<<64 - 1 }},
		{"period 2^32 + 30 days", func(r *ring) { r.policy[2] = 1<<32 + 30*day }},
		{"lead 2^32 + 1 hour", func(r *ring) { r.policy[3] = 1<<32 + hour }},
		{"period 0", func(r *ring) { r.policy[2], r.policy[3] = 0, 0 }},
		{"period of 366 days and 1 s", func(r *ring) { r.policy[2] = 366*day + 1 }},
		{"lead is clockSkew", func(r *ring) { r.policy[3] = 5 }},
		{"period and lead of 1 s", func(r *ring) { r.policy = [4]uint64{5, 1, 1, 1} }},
		{"lead 0", func(r *ring) { r.policy[3] = 0 }},
		{"lead is period + 1", func(r *ring) { r.policy[2], r.policy[3] = hour, hour+1 }},
		{"no key", func(r *ring) { r.chain, r.revoked = nil, nil }},
		{"no key but revoked ones", func(r *ring) { r.chain = nil }},
		{"secret of 31 bytes", func(r *ring) { r.chain[2].secret = r.chain[2].secret[:31] }},
		{"secret of 33 bytes", func(r *ring) { r.chain[2].secret += "\x00" }},
		{"secret empty", func(r *ring) { r.chain[2].secret = "" }},
		{"secret all zero", func(r *ring) { r.chain[1].secret = strings.Repeat("\x00", 32) }},
		{"secret of a revoked key all zero", func(r *ring) { r.revoked[1].secret = strings.Repeat("\x00", 32) }},
		{"a secret twice in the chain", func(r *ring) { r.chain[2].secret = r.chain[0].secret }},
		{"a secret in both lists", func(r *ring) { r.revoked[0].secret = r.chain[0].secret }},
		{"a secret twice among the revoked", func(r *ring) { r.revoked[0].secret = r.revoked[1].secret }},
		{"two secrets of one ID", func(r *ring) { r.chain[0].secret, r.revoked[1].secret = sameID[0], sameID[1] }},
		{"created after 9999", func(r *ring) { r.chain[1].times[0] = maxTime + 1 }},
		{"retires after 9999", func(r *ring) {
			r.chain[2].times[2], r.chain[2].times[3], r.chain[3].times[1] = maxTime+1, maxTime+71, maxTime+1
		}},
		{"expires after 9999", func(r *ring) { r.chain[1].times[3] = maxTime + 1 }},
		{"created at 2^63", func(r *ring) { r.chain[1].times[0] = 1 << 63 }},
		{"expires at 2^64 - 1", func(r *ring) { r.chain[1].times[3] = 1<<64 - 1 }},
		{"revoked after 9999", func(r *ring) { r.revoked[0].times[4] = maxTime + 1 }},
		{"activates of a revoked key after 9999", func(r *ring) { r.revoked[0].times[1] = maxTime + 1 }},
		{"created of a revoked key after 9999", func(r *ring) { r.revoked[0].times[0] = maxTime + 1 }},
		{"retires of a revoked key after 9999", func(r *ring) { r.revoked[0].times[2] = maxTime + 1 }},
		{"expires of a revoked key after 9999", func(r *ring) { r.revoked[0].times[3] = maxTime + 1 }},
		{"created of a revoked key at 2^64 - 1", func(r *ring) { r.revoked[0].times[0] = 1<<64 - 1 }},
		{"activates of a revoked key at 2^64 - 1", func(r *ring) { r.revoked[0].times[1] = 1<<64 - 1 }},
		{"retires of a revoked key at 2^64 - 1", func(r *ring) { r.revoked[0].times[2] = 1<<64 - 1 }},
		{"expires of a revoked key at 2^64 - 1", func(r *ring) { r.revoked[0].times[3] = 1<<64 - 1 }},
		{"revoked of a revoked key at 2^64 - 1", func(r *ring) { r.revoked[0].times[4] = 1<<64 - 1 }},
		{"first key activates", func(r *ring) { r.chain[0].times[1] = base - 80*day }},
		{"only key activates", func(r *ring) { r.chain = r.chain[3:] }},
		{"second key activates since ever", func(r *ring) { r.chain[1].times[1] = 0 }},
		{"last key retires", func(r *ring) { r.chain[3].times[2], r.chain[3].times[3] = base+50*day, base+50*day+70 }},
		{"last key retires, and does not expire", func(r *ring) { r.chain[3].times[2] = base + 50*day }},
		{"last key expires", func(r *ring) { r.chain[3].times[3] = base + 50*day }},
		{"a key does not retire", func(r *ring) { r.chain[1].times[2] = 0 }},
		{"a key does not expire", func(r *ring) { r.chain[1].times[3] = 0 }},
		{"a gap of 1 s between keys", func(r *ring) { r.chain[1].times[1]++ }},
		{"an overlap of 1 s between keys", func(r *ring) { r.chain[1].times[1]-- }},
		{"retires as it activates", func(r *ring) {
			r.chain[1].times[2], r.chain[1].times[3], r.chain[2].times[1] = base-60*day, base, base-60*day
		}},
		{"retires before it activates", func(r *ring) {
			r.chain[1].times[2], r.chain[1].times[3], r.chain[2].times[1] = base-61*day, base, base-61*day
		}},
		{"expires 1 s too early", func(r *ring) { r.chain[1].times[3]-- }},
		{"expires too early for one skew", func(r *ring) { r.chain[1].times[3] -= 5 }},
		{"expires as it retires", func(r *ring) { r.chain[1].times[3] = r.chain[1].times[2] }},
		{"keys in another order", func(r *ring) { r.chain[1], r.chain[2] = r.chain[2], r.chain[1] }},
		{"a revoked key in the chain", func(r *ring) { r.chain[1].times[4] = base - 10 }},
		{"a key in the chain that was revoked at 2^8", func(r *ring) { r.chain[1].times[4] = 1 << 8 }},
		{"a key in the chain that was revoked at 2^16", func(r *ring) { r.chain[1].times[4] = 1 << 16 }},
		{"a key in the chain that was revoked at 2^32", func(r *ring) { r.chain[1].times[4] = 1 << 32 }},
		{"last key revoked", func(r *ring) { r.chain[3].times[4] = base - 10 }},
		{"a key among the revoked that is not", func(r *ring) { r.revoked[0].times[4] = 0 }},
		{"a revoked key that does not expire", func(r *ring) { r.revoked[0].times[3] = 0 }},
		{"two primaries", func(r *ring) { r.chain[3].times[1], r.chain[3].times[0] = 0, 0 }},
	} {
		add(c.name, changed(c.f))
	}
}

// sameID has two secrets with one key ID. Finding them took 124,000 attempts.
var sameID = [2]string{
	"two secrets of one ID   \x00\x00\x00\x00\x00\x00\x1f\x04",
	"two secrets of one ID   \x00\x00\x00\x00\x00\x01\xe2\x8a",
}

// serials has versions that replace others.
func (l *loader) serials() {
	sealed := func(name string, serial uint64) *envelope {
		return newEnvelope(name, production, small(func(r *ring) { r.serial = serial }).encode())
	}
	const step = 1 << 32
	for _, c := range []struct {
		name        string
		min, serial uint64
		reason      string
	}{
		{"2^62, if none is known", 0, 1 << 62, ""},
		{"2^62 + 1, if none is known", 0, 1<<62 + 1, "too-far-ahead"},
		{"2^63 - 1, if none is known", 0, 1<<63 - 1, "too-far-ahead"},
		{"the minimum", 7, 7, ""},
		{"below the minimum", 8, 7, "rollback"},
		{"2^32 above the minimum", 9, 9 + step, ""},
		{"2^32 + 1 above the minimum", 9, 10 + step, "too-far-ahead"},
		{"2^32 above a minimum of 2^62", 1 << 62, 1<<62 + step, ""},
		{"2^62, with a minimum of 1", 1, 1 << 62, "too-far-ahead"},
		{"2^63 - 1, with that minimum", maxSerial, maxSerial, ""},
		{"2^63 - 1, with a minimum of 2^63 - 2", maxSerial - 1, maxSerial, ""},
	} {
		l.add("first load: "+c.name, c.reason, sealed("first load: "+c.name, c.serial), c.serial).MinSerial = c.min
	}
	current := sealed("current", 100).seal()
	currentForm1 := sealed("current, form 1", 100).asForm1().seal()
	other := func(name string, serial uint64) *envelope {
		return newEnvelope(name, production, small(func(r *ring) { r.serial = serial; r.chain[0].times[0]++ }).encode())
	}
	replace := func(name, reason string, current []byte, e *envelope, serial uint64) *vectors.Ring {
		v := l.add("replacement: "+name, reason, e, serial)
		v.Current, v.CurrentSerial = current, 100
		return v
	}
	replace("higher by 1", "", current, other("+1", 101), 101)
	replace("higher by 2^32", "", current, other("+step", 100+step), 100+step)
	replace("higher by 2^32 + 1", "too-far-ahead", current, other("+step+1", 101+step), 0)
	replace("the same", "", current, sealed("current", 100), 100)
	replace("the same document, sealed again", "", current, sealed("again", 100), 100)
	replace("the same serial, another document", "conflict", current, other("conflict", 100), 0)
	replace("the same serial, a policy of 1 s more", "conflict", current, newEnvelope("policy", production, small(func(r *ring) { r.serial = 100; r.policy[2]++ }).encode()), 0)
	replace("lower by 1", "rollback", current, other("-1", 99), 0)
	replace("serial 1", "rollback", current, other("1", 1), 0)
	replace("form 1 in place of form 2", "context", current, other("form 1 for 2", 101).asForm1(), 0)
	replace("form 1 in place of form 2, the same document", "context", current, sealed("form 1 for the same", 100).asForm1(), 0)
	replace("form 2 in place of form 1", "", currentForm1, other("form 2 for 1", 101), 101)
	replace("form 2 in place of form 1, the same document", "", currentForm1, sealed("form 2 for the same", 100), 100)
	replace("form 1 in place of form 1", "", currentForm1, other("form 1 for 1", 101).asForm1(), 101)
	replace("form 1 in place of form 1, lower", "rollback", currentForm1, other("form 1 lower", 99).asForm1(), 0)
	replace("form 2 in place of form 1, lower", "rollback", currentForm1, other("form 2 for 1, lower", 99), 0)
	replace("form 2 in place of form 1, the same serial, another document", "conflict", currentForm1, other("form 2 for 1, conflict", 100), 0)
	replace("above 2^62", "", sealed("at 2^62", 1<<62).seal(), other("above 2^62", 1<<62+5), 1<<62+5).CurrentSerial = 1 << 62
	replace("2^63 - 1 in place of 2^63 - 2", "", sealed("2^63 - 2", maxSerial-1).seal(), other("2^63 - 1", maxSerial), maxSerial).CurrentSerial = maxSerial - 1
	replace("the minimum", "", current, other("the minimum", 150), 150).MinSerial = 150
	replace("below a minimum that is above what is in force", "rollback", current, other("below the minimum", 150), 0).MinSerial = 200
	replace("2^32 above what is in force, and more above the minimum", "", current, other("+step, minimum", 100+step), 100+step).MinSerial = 1
	replace("form 1 in place of form 1, which the host refuses", "context", currentForm1, other("form 1, refused", 101).asForm1(), 0).RefuseForm1 = true
	replace("form 2 in place of form 1, which the host refuses", "", currentForm1, other("form 2, form 1 refused", 101), 101).RefuseForm1 = true
	replace("two faults: form 1 in place of form 2, lower", "context", current, other("form 1, lower", 99).asForm1(), 0)
	v := replace("two faults: another context, lower", "context", current, newEnvelope("another, lower", "another", small(func(r *ring) { r.serial = 99 }).encode()), 0)
	v.Context = []byte(production)
	l.order(current, sealed)
	replace("two faults: lower, and its policy broken", "document", current, newEnvelope("broken, lower", production, small(func(r *ring) { r.serial, r.policy[0] = 99, 4 }).encode()), 0)
}

// order has rings of form 1, where that is refused, with a second fault. The
// earlier step decides.
func (l *loader) order(current []byte, sealed func(name string, serial uint64) *envelope) {
	for _, c := range []struct {
		name, reason string
		serial, min  uint64
		edit         func(*envelope)
		last         byte // changes the last byte
	}{
		{"another KEK", "kek", 101, 0, func(e *envelope) { e.kekID = "local-0123456789abcdef" }, 0},
		{"forged", "forged", 101, 0, func(*envelope) {}, 1},
		{"no document", "document", 101, 0, func(e *envelope) { e.document = "" }, 0},
		{"below the minimum", "rollback", 101, 200, func(*envelope) {}, 0},
		{"too far ahead", "context", 101 + 1<<32, 0, func(*envelope) {}, 0},
	} {
		for _, refused := range []bool{true, false} {
			name, reason := "replacement: two faults: form 1 in place of form 2, "+c.name, c.reason
			if refused {
				name = "first load: two faults: form 1, which the host refuses, " + c.name
				if reason != "kek" && reason != "forged" {
					// Step 5 comes before the document.
					reason = "context"
				}
			}
			e := sealed(name, c.serial).asForm1()
			c.edit(e)
			whole := e.seal()
			whole[len(whole)-1] ^= c.last
			v := l.addSealed(name, reason, production, whole, 0)
			v.MinSerial = c.min
			if v.RefuseForm1 = refused; !refused {
				v.Current, v.CurrentSerial = current, 100
			}
		}
	}
}
