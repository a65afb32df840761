"""Makes chattoken.py wrong, in one way at a time.

Each leniency is a likely mistake: what libraries do by themselves, or a check
that was forgotten. Its name begins with the operations in whose vectors it must
show.

The program is chattoken.py with two more operations: "leniences" returns the
names, and "lenient" applies the one of that name and no other.
"""

import pathlib
import re
import sys
import unicodedata

import cbor2

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import chattoken as ct  # noqa: E402

strict = dict(vars(ct))


TYPES = ["integers", "negative integers", "byte strings", "texts", "arrays", "maps"]

# A tolerant CBOR reader. It rewrites what it tolerates into the one encoding,
# and the strict reader reads that.

class Tolerant:
    def __init__(self, *what):
        self.what = what

    def decode(self, data):
        try:
            canonical, rest = self.item(data)
        except (IndexError, KeyError, ValueError, RecursionError):
            return None
        return strict["decode"](canonical + (b"" if "trailing bytes" in self.what else rest))

    def demand(self, what):
        if what not in self.what:
            raise ValueError(what)

    def head(self, b):
        major, low = b[0] >> 5, b[0] & 31
        if low < 24 or low == 31:
            return major, low if low < 24 else None, b[1:]
        if low > 27:
            self.demand("reserved heads")
            return major, low, b[1:]
        size = 1 << low - 24
        if len(b) <= size:
            raise ValueError("cut off")
        n = int.from_bytes(b[1:1 + size], "big")
        least = 24 if size == 1 else 1 << 4 * size
        if major < 6 and n < least and not (n == least - 1 and "long heads, off by one" in self.what):
            self.demand(f"long heads: {TYPES[major]}, {size} bytes")
        if major == 7:
            n = b[:1 + size]
        elif n > len(b) and major in (2, 3, 4, 5):
            raise ValueError("cut off")
        return major, n, b[1 + size:]

    def item(self, b):
        major, n, b = self.head(b)
        if n is None and major in (2, 3, 4, 5):
            self.demand("indefinite lengths")
            items = []
            while b[0] != 0xff:
                item, b = self.item(b)
                items.append(item)
            b = b[1:]
            if major in (2, 3):
                data = b"".join(self.head(i)[2] for i in items)
                return self.text(data) if major == 3 else ct.head(2, len(data)) + data, b
        elif major in (0, 1):
            if major == 1:
                self.demand("negative integers")
            return ct.head(0, n), b
        elif major in (2, 3):
            if major == 2 and n != 32:
                self.demand("byte strings for text")
            data = b[:n]
            if len(data) < n:
                raise ValueError("cut off")
            return self.text(data) if major == 3 or n != 32 else ct.head(2, n) + data, b[n:]
        elif major == 6:
            self.demand("tags")
            return self.item(b)
        elif major == 7:
            return self.simple(n), b
        else:
            items = []
            for _ in range(n if major == 4 else 2 * n):
                item, b = self.item(b)
                items.append(item)
        if major == 4:
            return ct.head(4, len(items)) + b"".join(items), b
        return self.pairs(list(zip(items[::2], items[1::2]))), b

    def simple(self, n):
        if n in (20, 21):
            self.demand("booleans for integers")
            return ct.head(0, n - 20)
        if n in (22, 23):
            self.demand("null for what is absent")
            return b"\xa0" if "null is a map" in self.what else ct.head(0, 0)
        self.demand("floats for integers")
        return ct.head(0, int(cbor2.loads(n)))

    def pairs(self, pairs):
        keys = [k for k, _ in pairs]
        if len(set(keys)) < len(keys):
            self.demand("keys twice")
            pairs = list(dict(pairs).items())
        if [k for k, _ in pairs] != sorted({k for k, _ in pairs}):
            self.demand("keys in any order")
        return ct.head(5, len(pairs)) + b"".join(k + v for k, v in sorted(pairs))

    def text(self, data):
        try:
            data.decode()
        except UnicodeDecodeError:
            for name, read in UTF8.items():
                if name in self.what:
                    data = read(data).encode("utf-8", "replace")
        return ct.head(3, len(data)) + data


def java(data):
    """Modified UTF-8: NUL in two bytes, and pairs of surrogates."""
    text = data.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


UTF8 = {
    "replacement characters": lambda data: data.decode("utf-8", "replace"),
    "what is wrong left out": lambda data: data.decode("utf-8", "ignore"),
    "lone surrogates": lambda data: data.decode("utf-8", "surrogatepass"),
    "modified UTF-8": java,
    "Latin-1": lambda data: data.decode("latin-1"),
}
CBOR = {
    "open load": ["long heads, off by one", "indefinite lengths", "trailing bytes", "tags", "negative integers",
                  "booleans for integers", "null for what is absent", "floats for integers"],
    "open": ["byte strings for text", "keys twice", "keys in any order", "reserved heads"],
}
LONG = {"open": [0, 3, 4, 5], "load": [0, 4]}
TEXT = {
    "byte order mark taken off": lambda t: t.removeprefix("\ufeff"),
    "NFC": lambda t: unicodedata.normalize("NFC", t),
    "NFD": lambda t: unicodedata.normalize("NFD", t),
    "NFKC": lambda t: unicodedata.normalize("NFKC", t),
    "case folded": str.casefold,
    "spaces taken off": str.strip,
    "ends at NUL": lambda t: t.split("\0")[0],
    "line ends made equal": lambda t: t.replace("\r\n", "\n"),
    "noncharacters left out": lambda t: "".join(c for c in t if ord(c) & 0xfffe != 0xfffe),
}


def changed(change):
    """Reads the payload, and changes every text of it."""
    def decode(data):
        p = strict["decode"](data)
        if type(p) is not list or len(p) != 7 or type(p[3]) is not dict:
            return p
        return [change(i) if type(i) is str else i for i in p[:3]] + [{change(k): change(v) for k, v in p[3].items()}] + p[4:]
    return decode


def read(change):
    """Reads a payload or a document, and changes what is in it."""
    def decode(data):
        v = strict["decode"](data)
        return change(v) if type(v) is list and len(v) in (4, 7) else v
    return decode


def cut(items, i, bits):
    """Cuts the upper bits off one integer."""
    return [v & (1 << bits) - 1 if j == i and type(v) is int else v for j, v in enumerate(items)]


def ring_cut(change):
    """Makes a ring of what a change makes of policy, chain and revoked keys."""
    def init(ring, context, serial, *rest):
        strict["Ring"].__init__(ring, context, serial, *change(*rest))
    return ring_with(__init__=init)


def cuts():
    """Integers that are put into too few bits."""
    for bits in 8, 16, 32:
        for i, name in (2, "capabilities"), (4, "issued-at"), (5, "ttl"), (6, "session"):
            yield f"open: {bits} bits: {name}", {"decode": read(lambda v, *, i=i, bits=bits: cut(v, i, bits) if len(v) == 7 else v)}
        for i, name in enumerate(["maxTTL", "clockSkew", "period", "lead"]):
            change = lambda policy, *keys, i=i, bits=bits: (cut(policy, i, bits), *keys)
            yield f"load: {bits} bits: {name}", {"Ring": ring_cut(change)}
        for i, name in enumerate(ct.TIMES, 1):
            chain = lambda p, c, r, i=i, bits=bits: (p, [cut(k, i, bits) for k in c], r)
            revoked = lambda p, c, r, i=i, bits=bits: (p, c, [cut(k, i, bits) for k in r])
            yield f"load: {bits} bits: {name} of the chain", {"Ring": ring_cut(chain)}
            yield f"load: {bits} bits: {name} of a revoked key", {"Ring": ring_cut(revoked)}


def refused_first(name, check):
    """Makes a function first refuse whatever check has a reason for."""
    def function(*args):
        ct.demand(not check(*args), check(*args))
        return strict[name](*args)
    return {name: function}


def swapped(reason, check):
    """Loads, but checks the form before what gives that reason."""
    def load(kek, sealed, context, refuse=False, least=0, old=None):
        try:
            return strict["load"](kek, sealed, context, refuse, least, old)
        except ct.Refused as refused:
            first = refused.args[0] == reason and sealed[17] == 1 and check(refuse, old)
            raise ct.Refused("context") if first else refused
    return {"load": load}


def form1_late(kek, sealed, context, refuse=False, *rest):
    ring = strict["load"](kek, sealed, context, False, *rest)
    ct.demand(ring.form == 2 or not refuse, "context")
    return ring


def first_load_only(**what):
    """Checks the minimum serial or the form only if no ring is in force."""
    def load(kek, sealed, context, refuse=False, least=0, old=None):
        given = {"refuse_form1": refuse, "least": least} | (what if old else {})
        return strict["load"](kek, sealed, context, old=old, **given)
    return load


def any_key(ring, text, now):
    """Tries all keys, that of the key ID first."""
    for key in [ring.find((ct.unspell(text[4:]) or b"")[:4]), *ring.keys]:
        one = type("One", (), vars(ring) | {"find": lambda _, key_id: key})()
        try:
            return strict["verify"](one, text, now)
        except ct.Refused as refused:
            if refused.args[0] != "forged":
                raise
    raise ct.Refused("forged")


def first_pending(key, now):
    state = strict["Key"].state(key, now)
    return "pending" if state == "primary" and now < key.activates else state


def added_up(names):
    return sum(1 << ct.CAPABILITIES.index(n) if n in ct.CAPABILITIES else 8 for n in names)


def signed(n):
    return n - (1 << 64) if n >> 63 else n


def clock_after_ttl(ring, claims, now, ttl=None, *rest):
    try:
        return strict["mint"](ring, claims, now, ttl, *rest)
    except ct.Refused as refused:
        wrong = refused.args[0] == "clock" and ttl is not None and not ct.is_ttl(ring, ttl)
        raise ct.Refused("ttl") if wrong else refused


def minted(change):
    """Changes every text of a request."""
    def mint(ring, claims, *rest):
        claims = {k: change(v) if type(v) is str else v for k, v in claims.items()}
        if "attributes" in claims:
            claims["attributes"] = {change(k): change(v) for k, v in claims["attributes"].items()}
        return strict["mint"](ring, claims, *rest)
    return mint


def unchecked(data):
    try:
        return cbor2.loads(data)
    except Exception:
        return None


def graphemes(text):
    return len([c for i, c in enumerate(text) if not unicodedata.combining(c) and "\u200d" not in text[max(i - 1, 0):i + 1]])


def lax(change):
    return lambda text: strict["unspell"](change(text))


def opened(change):
    return lambda ring, text, now: strict["verify"](ring, change(text), now)


def spare(text):
    return strict["unspell"](text) or ct.base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def less(table, name):
    return {k: v for k, v in strict[table].items() if k != name}


def ring_with(**methods):
    return type("Lenient", (strict["Ring"],), methods)


def key_later(**seconds):
    """A key whose state goes by times that are so many seconds later."""
    def state(key, now):
        later = type("Later", (), {n: getattr(key, n) and getattr(key, n) + seconds.get(n, 0) for n in ct.TIMES})
        return strict["Key"].state(later, now)
    return type("Lenient", (strict["Key"],), {"state": state})


RULES = {"open mint": ["FIELDS"], "open": ["ISSUED_AT", "TTL", "CLOSED"], "load": ["RING", "MINIMUM", "FIRST", "NEXT"]}
LENIENT = {f"{ops}: no check: {t}: {n}": {t: less(t, n)} for ops, tables in RULES.items() for t in tables for n in strict[t]}
# A vector for this one would be too long.
del LENIENT["load: no check: RING: at most 4,096 keys"]
LENIENT |= {f"{ops}: CBOR: {name}": {"decode": Tolerant(name).decode} for ops, names in CBOR.items() for name in names}
LENIENT |= {
    f"{op}: CBOR: {name}": {"decode": Tolerant(name).decode}
    for op, majors in LONG.items() for major in majors for size in (1, 2, 4, 8)
    for name in [f"long heads: {TYPES[major]}, {size} bytes"]
}
LENIENT |= {
    f"load: CBOR: {name}": {"decode": Tolerant(name).decode}
    for size in (2, 4, 8) for name in [f"long heads: byte strings, {size} bytes"]
}
LENIENT |= dict(cuts())
LENIENT |= {f"open: UTF-8: {name}": {"decode": Tolerant(name).decode} for name in UTF8}
LENIENT |= {f"open: text: {name}": {"decode": changed(change)} for name, change in TEXT.items()}
LENIENT |= {f"mint: text: {name}": {"mint": minted(change)} for name, change in TEXT.items()}
LENIENT |= {
    "open load: CBOR: not encoded again": {"decode": unchecked},
    "open: CBOR: null for an empty map": {"decode": Tolerant("null for what is absent", "null is a map").decode},
    "open: CBOR: empty array for an empty map": {"decode": read(lambda v: [{} if i == 3 and x == [] else x for i, x in enumerate(v)] if len(v) == 7 else v)},
    "load: CBOR: empty map for an empty array": {"decode": read(lambda v: [[] if x == {} else x for x in v] if len(v) == 4 else v)},
    "open mint: length: code points for bytes": {"byte_length": len},
    "open mint: length: bytes for code points": {"code_points": lambda t: len(t.encode())},
    "open mint: length: UTF-16 for code points": {"code_points": lambda t: len(t.encode("utf-16-le")) // 2},
    "open mint: length: graphemes for code points": {"code_points": graphemes},
    "open mint: length: values of attributes only": {"attribute_bytes": lambda a: sum(len(v.encode()) for v in a.values())},
    "open mint: order: UTF-16": {"order": lambda k: (len(k.encode()), k.encode("utf-16-be"))},
    "open mint: order: text": {"order": lambda k: k.encode()},
    "open mint: order: by code points": {"order": lambda k: (len(k), k.encode())},
    "mint: order: as it is": {"order": lambda k: 0},
    "open: token: padding": {"unspell": lax(lambda t: t.rstrip("="))},
    "open: token: spaces at the ends": {"verify": opened(str.strip)},
    "open: token: line ends within": {"unspell": lax(lambda t: re.sub(r"[\r\n]", "", t))},
    "open: token: the other alphabet": {"unspell": lax(lambda t: t.replace("+", "-").replace("/", "_"))},
    "open: token: what is not of the alphabet left out": {"unspell": lax(lambda t: re.sub(r"[^A-Za-z0-9_-]", "", t))},
    "open: token: spare bits": {"unspell": spare},
    "open: token: characters of 7 bits": {"verify": opened(lambda t: "".join(chr(ord(c) & 0x7f) for c in t))},
    "open: token: characters of 8 bits": {"verify": opened(lambda t: "".join(chr(ord(c) & 0xff) for c in t))},
    "open: token: prefix in capitals": {"verify": opened(lambda t: t.replace("CT1_", "ct1_"))},
    "open: token: no shortest": {"SHORTEST": 0},
    "open: token: no longest": {"LONGEST": 1 << 20},
    "open: keys: all are tried": {"verify": any_key},
    "open: keys: pending ones are closed": {"CLOSED": strict["CLOSED"] | {"pending": "unknown-key"}},
    "open: keys: retired ones are closed": {"CLOSED": strict["CLOSED"] | {"retired": "unknown-key"}},
    "open: keys: revoked ones are unknown": {"CLOSED": {"revoked": "unknown-key", "expired": "unknown-key"}},
    "open: keys: expire a second late": {"Key": key_later(expires=1)},
    "open: keys: expire a second early": {"Key": key_later(expires=-1)},
    "mint: keys: a second late": {"Key": key_later(activates=1, retires=1)},
    "mint: keys: a second early": {"Key": key_later(activates=-1, retires=-1)},
    "load: keys: pending before 1970": {"Key": type("Lenient", (strict["Key"],), {"state": first_pending})},
    "load: keys: a second early": {"Key": key_later(activates=-1, retires=-1)},
    "open: time: no clock before 1970": refused_first("verify", lambda r, text, now: "unavailable" if now < 0 else None),
    "open: time: no clock after 9999": refused_first("verify", lambda r, text, now: "unavailable" if now > ct.MAX else None),
    "open: time: TTL before issued-at": {"ISSUED_AT": strict["ISSUED_AT"] | strict["TTL"]},
    "open: time: TTL is signed": {"ISSUED_AT": strict["ISSUED_AT"] | {"signed": lambda p: p[5] < 1 << 63}},
    "open: time: a skew of 5 s always": {"too_early": lambda r, p, now: p[4] > now + 5},
    "open: time: no skew": {"too_early": lambda r, p, now: p[4] > now},
    "open: time: never too early": {"too_early": lambda r, p, now: False},
    "open: time: a second of leeway": {"expired": lambda r, p, now: now > p[4] + p[5]},
    "open: time: the skew as leeway": {"expired": lambda r, p, now: now >= p[4] + p[5] + r.clock_skew},
    "open: time: never expired": {"expired": lambda r, p, now: False},
    "open mint: token expires after a minute": {"token_end": lambda p: p[4] + 60},
    "open mint: session of an hour": {"session_end": lambda p: p[4] + 3600},
    "open mint: session from the token's expiration": {"session_end": lambda p: p[4] + p[5] + 60 * p[6]},
    "authorize: until the token expires": {"session_end": lambda p: p[4] + p[5]},
    "authorize: from the token's expiration": {"session_end": lambda p: p[4] + p[5] + 60 * p[6]},
    "authorize: a second longer": {"session_end": lambda p: p[4] + 60 * p[6] + 1},
    "authorize: for ever": {"session_end": lambda p: 1 << 64},
    "authorize: any of the capabilities": {"has": lambda held, needed: held & needed},
    "authorize: exactly the capabilities": {"has": lambda held, needed: held == needed},
    "authorize: whoever needs none": {"has": lambda held, needed: held & needed == needed},
    "authorize: everything": {"has": lambda held, needed: True},
    "authorize: capabilities added up": {"sum_of": added_up},
    "authorize: capabilities first": refused_first("authorize", lambda p, names, now: None if ct.has(p[2], ct.sum_of(names)) else "not-permitted"),
    "mint: clock first": refused_first("mint", lambda r, claims, now, *rest: None if 0 <= now <= ct.MAX else "clock"),
    "mint: TTL first": refused_first("mint", lambda r, claims, now, ttl=None, *rest: None if ttl is None or ct.is_ttl(r, ttl) else "ttl"),
    "mint: TTL before the clock": {"mint": clock_after_ttl},
    "mint: TTL of 60 by default": {"default_ttl": lambda r: min(60, r.max_ttl)},
    "mint: default TTL above maxTTL": {"default_ttl": lambda r: max(60, r.clock_skew + 5)},
    "mint: maxTTL by default": {"default_ttl": lambda r: r.max_ttl},
    "mint: no policy": {"is_ttl": lambda r, ttl: 5 <= ttl <= 600},
    "mint: any TTL": {"is_ttl": lambda r, ttl: True},
    "mint: TTL longer than the session": {"within_session": lambda ttl, minutes: ttl},
    "mint: 0 minutes are 60": {"minutes_of": lambda c: c.get("sessionDurationInMinutes") or 60},
    "mint: capabilities added up": {"sum_of": added_up},
    "mint: capabilities without their spaces": {"sum_of": lambda names: strict["sum_of"]([n.strip() for n in names])},
    "mint: 16 bits: session": {"minutes_of": lambda c: strict["minutes_of"](c) & 0xffff},
    "mint: 32 bits: session": {"minutes_of": lambda c: strict["minutes_of"](c) & 0xffffffff},
    "mint: unknown capabilities left out": {"sum_of": lambda names: sum({1 << ct.CAPABILITIES.index(n) for n in names if n in ct.CAPABILITIES})},
    "mint: first field only": {"broken": lambda rules, *of: strict["broken"](rules, *of)[:1]},
    "mint: any room": {"is_room": lambda t: True},
    "mint: room with something after": {"is_room": lambda t: ct.ROOM.match(t)},
    "mint: room with something before": {"is_room": lambda t: re.search(ct.ROOM.pattern + r"\Z", t)},
    "mint: room with a line feed": {"is_room": lambda t: re.match(ct.ROOM.pattern + "$", t)},
    "mint: digits of any script": {"is_room": lambda t: re.fullmatch(ct.ROOM.pattern.replace("0-9]+:room", r"\d]+:room"), t)},
    "mint: room with spaces before": {"is_room": lambda t: strict["is_room"](t.lstrip())},
    "mint: room ends at NUL": {"is_room": lambda t: strict["is_room"](t.split("\0")[0])},
    "mint: no region": {"is_room": lambda t: re.fullmatch(ct.ROOM.pattern.replace("[a-z0-9-]+", "[a-z0-9-]*"), t)},
    "mint: beginning in any case": {"is_room": lambda t: strict["is_room"](t[:16].lower() + t[16:])},
    "mint: any case": {"is_room": lambda t: re.fullmatch(ct.ROOM.pattern, t, re.I)},
    "mint: under the newest key": {"Ring": ring_with(primary=lambda r, now: r.chain[-1])},
    "mint: under the oldest key": {"Ring": ring_with(primary=lambda r, now: r.chain[0])},
    "load: form 1 judged after the ring": {"load": form1_late},
    "load: minimum serial only at first": {"load": first_load_only(least=0)},
    "load: form 1 refused only at first": {"load": first_load_only(refuse_form1=False)},
    "load: rollback to another form": {"NEXT": strict["NEXT"] | {"rollback": lambda r, old: r.form != old.form or r.serial >= old.serial}},
    "load: conflict with another form": {"NEXT": strict["NEXT"] | {"conflict": lambda r, old: r.form != old.form or strict["NEXT"]["conflict"](r, old)}},
    "load: minimum + 2^32 overflows": {"FIRST": {"too-far-ahead": lambda r, least: r.serial <= (signed(least + (1 << 32)) if least else 1 << 62)}},
    "load: serial + 2^32 overflows": {"NEXT": strict["NEXT"] | {"too-far-ahead": lambda r, old: r.serial <= signed(old.serial + (1 << 32))}},
    "load: step 8 in place of a version too": {"NEXT": strict["NEXT"] | {"too-far-ahead": lambda r, old: r.serial <= 1 << 62}},
    "load: any digest": {"is_digest": lambda digest, context: True},
    "load: form 1 always": {"load": lambda kek, sealed, context, refuse=False, *rest: strict["load"](kek, sealed, context, False, *rest)},
    "load: any form": {"FORMS": range(256)},
    "load: any KEK ID": {"is_own": lambda a, b: True},
    "kek load: zeros": {"nonzero": lambda data: True},
    "kek: spaces within": {"parse_kek": lambda t: strict["parse_kek"](t.replace(" ", ""))},
    "kek: byte order mark": {"parse_kek": lambda t: strict["parse_kek"](t.removeprefix("\ufeff"))},
    "kek: nothing taken off a file": {"line_of": lambda t: t},
    "kek: all line feeds taken off a file": {"line_of": lambda t: t.rstrip("\n")},
    "kek: CR LF taken off a file": {"line_of": lambda t: t.removesuffix("\n").removesuffix("\r")},
    "kek: spaces taken off a file": {"line_of": str.strip},
    "kek: any prefix": {"parse_kek": lambda t: strict["parse_kek"]("chattoken-kek1_" + t[15:])},
}


for end, name in ("\n", "LF"), ("\r\n", "CR LF"), ("\r", "CR"), ("\0", "NUL"), (" ", "space"), ("\t", "tab"):
    LENIENT[f"kek: {name} at the end"] = {"parse_kek": lambda t, end=end: strict["parse_kek"](t.removesuffix(end))}
for reason in "kek", "forged":
    LENIENT[f"load: form 1 refused before {reason}"] = swapped(reason, lambda refuse, old: refuse)
for reason in "kek", "forged", "document", "rollback":
    LENIENT[f"load: form 1 in place of form 2 before {reason}"] = swapped(reason, lambda refuse, old: old and old.form == 2)


# The tools that make the faults, without a fault.
NOTHING = {"decode": Tolerant().decode, "unspell": lax(str), "verify": opened(str), "mint": minted(str), "Key": key_later(), "load": first_load_only()}


def lenient(q):
    vars(ct).update(strict)
    vars(ct).update(LENIENT.get(q["name"], NOTHING))
    return {}


ct.OPERATIONS |= {"lenient": lenient, "leniences": lambda q: {"names": list(LENIENT)}}

if __name__ == "__main__":
    ct.main()
