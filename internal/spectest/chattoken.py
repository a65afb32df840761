"""Mints and opens chat tokens, and loads rings: SPEC.md in Python.

It follows SPEC.md step by step and slowly, with other libraries than the Go
code: libsodium (through PyNaCl) and cbor2.

As a program it reads requests from standard input and writes replies to
standard output, one JSON object a line; see OPERATIONS at the end. Byte strings
are hexadecimal, and times are Unix seconds. lenient.py makes it wrong in many
ways, to check that the vectors notice.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import sys

import cbor2
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as xc20p_open,
    crypto_aead_xchacha20poly1305_ietf_encrypt as xc20p_seal,
)
from nacl.exceptions import CryptoError

MAX = 253402300799
MEMBERS = ["roomIdentifier", "userId", "capabilities", "attributes", "sessionDurationInMinutes"]
CAPABILITIES = ["SEND_MESSAGE", "DISCONNECT_USER", "DELETE_MESSAGE"]
ROOM = re.compile(r"arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+")


class Refused(Exception):
    """Says why, in a word of SPEC.md, or names fields."""


def demand(condition, why):
    if not condition:
        raise Refused(why)


# 2. Notation


def hkdf(secret, info, size):
    """HKDF-SHA256 with an empty salt, for up to one block of output."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:size]


def decrypt(key, nonce, ciphertext, aad, why):
    try:
        return xc20p_open(ciphertext, aad, nonce, key)
    except (CryptoError, ValueError):  # ValueError: shorter than a tag
        raise Refused(why) from None


def spell(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unspell(text):
    """Decodes base64url in its one spelling; None for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if spell(data) == text else None


def head(major, n):
    for code, size in (24, 1), (25, 2), (26, 4), (27, 8):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 1 << 8 * size:
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise ValueError("an integer is too large")


def encode(value):
    """Encodes the CBOR types that SPEC.md uses, and none besides."""
    kind = type(value)  # not isinstance: True is not an integer here
    if kind is int and value >= 0:
        return head(0, value)
    if kind is bytes:
        return head(2, len(value)) + value
    if kind is str:
        data = value.encode()
        return head(3, len(data)) + data
    if kind is list:
        return head(4, len(value)) + b"".join(map(encode, value))
    if kind is dict:
        keys = sorted(value, key=order)
        return head(5, len(keys)) + b"".join(encode(k) + encode(value[k]) for k in keys)
    raise TypeError("no such type in SPEC.md")


def decode(data):
    """Decodes the one encoding of a value; None for anything else."""
    try:
        value = cbor2.loads(data)
        return value if encode(value) == data else None
    except Exception:  # the decoder has many, down to RecursionError
        return None


def is_type(value, shape):
    """Whether value has a shape: a type, a list of shapes or {type: type}."""
    if type(shape) is list:
        return type(value) is list and len(value) == len(shape) and all(map(is_type, value, shape))
    if type(shape) is dict:
        [(k, v)] = shape.items()
        return type(value) is dict and all(type(a) is k and type(b) is v for a, b in value.items())
    return type(value) is shape


def broken(rules, *of):
    """The names of the rules that do not hold."""
    return [name for name, rule in rules.items() if not rule(*of)]


# 3. Keys


def derive(secret, context):
    key = hkdf(secret, b"chattoken/v1 key\x00" + context, 32)
    return key, hkdf(secret, b"chattoken/v1 key-id\x00" + context, 4)


# 4. Token

order = lambda key: encode(key)  # of the keys of a map
byte_length = lambda text: len(text.encode())
code_points = lambda text: len(text)
attribute_bytes = lambda attributes: sum(byte_length(text) for pair in attributes.items() for text in pair)
PAYLOAD = [str, str, int, {str: str}, int, int, int]
FIELDS = {
    "roomIdentifier": lambda p: 1 <= byte_length(p[0]) <= 128,
    "userId": lambda p: 1 <= code_points(p[1]) <= 128,
    "capabilities": lambda p: p[2] <= 7,
    "attributes": lambda p: "" not in p[3] and attribute_bytes(p[3]) <= 1024,
    "sessionDurationInMinutes": lambda p: 1 <= p[6] <= 180,
}
ISSUED_AT = {"at most MAX": lambda p: p[4] <= MAX}
TTL = {
    "at least 5 s": lambda p: p[5] >= 5,
    "at most 600 s": lambda p: p[5] <= 600,
    "at most the session": lambda p: p[5] <= 60 * p[6],
}


def claims_of(p):
    claims = {"roomIdentifier": p[0], "userId": p[1], "sessionDurationInMinutes": p[6]}
    if p[2]:
        claims["capabilities"] = [n for i, n in enumerate(CAPABILITIES) if p[2] >> i & 1]
    if p[3]:
        claims["attributes"] = p[3]
    return claims


# 5. Mint


def sum_of(names):
    """The sum of capabilities, or an illegal sum if one is unknown."""
    return sum({1 << CAPABILITIES.index(n) if n in CAPABILITIES else 8 for n in names})


minutes_of = lambda claims: claims.get("sessionDurationInMinutes", 60)
is_room = lambda text: ROOM.fullmatch(text) is not None
default_ttl = lambda ring: min(max(60, ring.clock_skew + 5), ring.max_ttl)
is_ttl = lambda ring, ttl: 5 <= ttl <= ring.max_ttl
within_session = lambda ttl, minutes: min(ttl, 60 * minutes)
token_end = lambda p: p[4] + p[5]
session_end = lambda p: p[4] + 60 * p[6]


def mint(ring, claims, now, ttl=None, grammar=None, nonce=None):
    """Mints a token; returns its payload, too. Only a test gives a nonce."""
    names, attributes, minutes = claims.get("capabilities", []), claims.get("attributes", {}), minutes_of(claims)
    p = [claims.get("roomIdentifier", ""), claims.get("userId", ""), sum_of(names), attributes, now, 0, minutes]
    wrong = broken(FIELDS, p) + ([] if (grammar or is_room)(p[0]) else ["roomIdentifier"])
    demand(not wrong, sorted(set(wrong), key=MEMBERS.index))
    demand(0 <= now <= MAX, "clock")
    demand(ttl is None or is_ttl(ring, ttl), "ttl")
    p[5] = within_session(default_ttl(ring) if ttl is None else ttl, minutes)
    key = ring.primary(now)
    nonce = nonce or os.urandom(24)
    return "ct1_" + spell(key.id + nonce + xc20p_seal(encode(p), b"ct1_" + key.id, nonce, key.key)), p


# 6. Open

SHORTEST, LONGEST = 76, 3850
CLOSED = {"revoked": "revoked-key", "expired": "unknown-key"}
too_early = lambda ring, p, now: p[4] > now + ring.clock_skew
expired = lambda ring, p, now: now >= token_end(p)
has = lambda held, needed: needed and held & needed == needed


def verify(ring, text, now):
    """Makes checks 1 to 10; returns the payload and the token ID."""
    demand(SHORTEST <= len(text) <= LONGEST and text.startswith("ct1_"), "malformed")
    box = unspell(text[4:])
    demand(box is not None, "malformed")
    key_id, nonce, ciphertext = box[:4], box[4:28], box[28:]
    key = ring.find(key_id)
    demand(key, "unknown-key")
    demand(key.state(now) not in CLOSED, CLOSED.get(key.state(now)))
    p = decode(decrypt(key.key, nonce, ciphertext, b"ct1_" + key_id, "forged"))
    demand(is_type(p, PAYLOAD) and not broken(FIELDS | ISSUED_AT, p), "payload")
    demand(not too_early(ring, p, now), "not-yet-valid")
    demand(not broken(TTL, p), "payload")
    demand(not expired(ring, p, now), "expired")
    return p, nonce[:16]


def authorize(p, names, now):
    demand(now < session_end(p), "session-expired")
    demand(has(p[2], sum_of(names)), "not-permitted")


# 7. Ring

TIMES = ["created", "activates", "retires", "expires", "revoked"]


class Key:
    def __init__(self, context, secret, *times):
        self.secret = secret
        self.key, self.id = derive(secret, context)
        for name, value in zip(TIMES, times, strict=True):
            setattr(self, name, value)

    def state(self, now):
        if self.revoked:
            return "revoked"
        if self.expires and now >= self.expires:
            return "expired"
        if self.activates and now < self.activates:
            return "pending"
        if self.retires and now >= self.retires:
            return "retired"
        return "primary"


class Ring:
    def __init__(self, context, serial, policy, chain, revoked):
        self.serial = serial
        self.max_ttl, self.clock_skew, self.period, self.lead = policy
        self.chain, self.revoked = ([Key(context, *k) for k in keys] for keys in (chain, revoked))
        self.keys = self.chain + self.revoked
        self.overlap = self.max_ttl + 2 * self.clock_skew

    def find(self, key_id):
        return next((k for k in self.keys if k.id == key_id), None)

    def primary(self, now):
        [key] = [k for k in self.chain if k.state(now) == "primary"]
        return key


def each(rule):
    """A rule for each key of the chain but the last, and the one after it."""
    return lambda r: all(map(rule, [r] * (len(r.chain) - 1), r.chain, r.chain[1:]))


RING = {
    "serial at least 1": lambda r: r.serial >= 1,
    "serial below 2^63": lambda r: r.serial < 1 << 63,
    "maxTTL at least 5": lambda r: r.max_ttl >= 5,
    "maxTTL at most 600": lambda r: r.max_ttl <= 600,
    "clockSkew at least 1": lambda r: r.clock_skew >= 1,
    "clockSkew at most 60": lambda r: r.clock_skew <= 60,
    "period at most 366 days": lambda r: r.period <= 366 * 86400,
    "lead above clockSkew": lambda r: r.lead > r.clock_skew,
    "lead at most period": lambda r: r.lead <= r.period,
    "a key in the chain": lambda r: r.chain,
    "at most 4,096 keys": lambda r: len(r.keys) <= 4096,
    "secrets of 32 bytes": lambda r: all(len(k.secret) == 32 for k in r.keys),
    "no secret of zeros": lambda r: all(nonzero(k.secret) for k in r.keys),
    "no ID twice": lambda r: len({k.id for k in r.keys}) == len(r.keys),
    "times": lambda r: all(getattr(k, n) <= MAX for k in r.keys for n in TIMES),
    "first activates": lambda r: not r.chain or r.chain[0].activates == 0,
    "retires after activates": each(lambda r, k, after: k.retires > k.activates),
    "retires as the next activates": each(lambda r, k, after: k.retires == after.activates),
    "expires late enough": each(lambda r, k, after: k.expires >= k.retires + r.overlap),
    "last does not retire": lambda r: not r.chain or not r.chain[-1].retires,
    "last does not expire": lambda r: not r.chain or not r.chain[-1].expires,
    "none revoked in the chain": lambda r: not any(k.revoked for k in r.chain),
    "all revoked of the revoked": lambda r: all(k.revoked for k in r.revoked),
    "the revoked expire": lambda r: all(k.expires for k in r.revoked),
}


nonzero = lambda data: any(data)
line_of = lambda text: text.removesuffix("\n")
is_own = lambda kek_id, own_id: kek_id == own_id


def parse_kek(text):
    """Returns the wrapping key and the KEK ID."""
    kek = unspell(text[15:])
    demand(text.startswith("chattoken-kek1_") and kek is not None, "kek")
    demand(len(kek) == 32 and nonzero(kek), "kek")
    kek_id = "local-" + hkdf(kek, b"chattoken/v1 kek-id\x00", 8).hex()
    return hkdf(kek, b"chattoken/v1 kek\x00", 32), kek_id.encode()


def unwrap(kek_text, kek_id, wrapped):
    key, own_id = parse_kek(kek_text)
    demand(is_own(kek_id, own_id) and len(wrapped) == 72, "kek")
    data_key = decrypt(key, wrapped[:24], wrapped[24:], own_id, "kek")
    demand(nonzero(data_key), "kek")
    return data_key


def cut(data, n):
    demand(len(data) >= n, "format")
    return data[:n], data[n:]


def unseal(kek_text, sealed, context):
    """Returns the form and the document."""
    demand(len(sealed) <= 1 << 20, "format")
    start, rest = cut(sealed, 18)
    form = start[17]
    demand(start[:17] == b"chattoken-keyring" and form in FORMS, "format")
    n, rest = cut(rest, 1)
    kek_id, rest = cut(rest, n[0])
    n, rest = cut(rest, 2)
    wrapped, rest = cut(rest, int.from_bytes(n, "big"))
    header = sealed[:len(sealed) - len(rest)]
    nonce, ciphertext = cut(rest, 24)
    demand(kek_id and wrapped, "format")
    data_key = unwrap(kek_text, kek_id, wrapped)
    plaintext = decrypt(data_key, nonce, ciphertext, header, "forged")
    if form == 2:
        demand(len(plaintext) >= 32, "document")
        demand(is_digest(plaintext[:32], context), "context")
        plaintext = plaintext[32:]
    return form, plaintext


FORMS = (1, 2)
is_digest = lambda digest, context: digest == hashlib.sha256(b"chattoken/v1 context\x00" + context).digest()
DOCUMENT, KEY = [int, 4 * [int], list, list], [bytes] + 5 * [int]
MINIMUM = {"rollback": lambda r, least: r.serial >= least}
FIRST = {"too-far-ahead": lambda r, least: r.serial <= (least + (1 << 32) if least else 1 << 62)}
NEXT = {
    "context": lambda r, old: r.form >= old.form,
    "rollback": lambda r, old: r.serial >= old.serial,
    "too-far-ahead": lambda r, old: r.serial <= old.serial + (1 << 32),
    "conflict": lambda r, old: r.serial > old.serial or r.document == old.document,
}


def load(kek_text, sealed, context, refuse_form1=False, least=0, old=None):
    """Loads a ring, in place of the old one if there is one."""
    form, document = unseal(kek_text, sealed, context)
    demand(form == 2 or not refuse_form1, "context")
    d = decode(document)
    demand(is_type(d, DOCUMENT) and all(is_type(k, KEY) for keys in d[2:] for k in keys), "document")
    ring = Ring(context, *d)
    ring.form, ring.document = form, document
    demand(not broken(RING, ring), "document")
    wrong = broken(MINIMUM, ring, least) + (broken(NEXT, ring, old) if old else broken(FIRST, ring, least))
    demand(not wrong, wrong and wrong[0])
    return ring


# The program


def load_of(q, sealed, *rest):
    return load(q["kek"], bytes.fromhex(sealed), bytes.fromhex(q["context"]), *rest)


def ring_of(q):
    """A request's sealed ring, or one of a key that seals at any time."""
    if "secret" not in q:
        return load_of(q, q["sealed"])
    policy = [q.get("maxTTL", 600), q.get("clockSkew", 5), 2592000, 3600]
    return Ring(bytes.fromhex(q["context"]), 1, policy, [[bytes.fromhex(q["secret"]), 0, 0, 0, 0, 0]], [])


def op_derive(q):
    key, key_id = derive(bytes.fromhex(q["secret"]), bytes.fromhex(q["context"]))
    return {"key": key.hex(), "keyID": key_id.hex()}


def op_kek(q):
    key, kek_id = parse_kek(line_of(q["text"]) if q.get("fromFile") else q["text"])
    return {"key": key.hex(), "kekID": kek_id.decode()}


ends_of = lambda p: {"tokenExpiration": token_end(p), "sessionExpiration": session_end(p)}


def op_mint(q):
    grammar = (lambda _: True) if q.get("anyRoom") else None
    token, p = mint(ring_of(q), q["claims"], q["now"], q.get("ttl"), grammar, bytes.fromhex(q.get("nonce", "")))
    return {"token": token} | ends_of(p)


def op_open(q):
    p, token_id = verify(ring_of(q), q["token"], q["now"])
    says = {"claims": claims_of(p), "issuedAt": p[4], "ttl": p[5]} | ends_of(p)
    return says | {"tokenID": token_id.hex(), "payload": encode(p).hex()}


def op_authorize(q):
    authorize(verify(ring_of(q), q["token"], q["issuedAt"])[0], q["capabilities"], q["now"])
    return {}


def op_load(q):
    old = load_of(q, q["current"], False, q["currentSerial"]) if "current" in q else None
    ring = load_of(q, q["sealed"], q.get("refuseForm1"), q.get("minSerial", 0), old)
    keys = [
        {"keyID": k.id.hex(), "state": k.state(q["now"])} | {n: getattr(k, n) for n in TIMES}
        for k in ring.keys if "now" in q
    ]
    return {"serial": ring.serial, "keys": keys or None}


OPERATIONS = {
    "derive": op_derive,  # secret, context
    "kek": op_kek,  # text; fromFile
    "mint": op_mint,  # claims, now, a ring; ttl, nonce, anyRoom
    "open": op_open,  # token, now, a ring
    "authorize": op_authorize,  # token, issuedAt, capabilities, now, a ring
    # kek, context, sealed; current, currentSerial, minSerial, refuseForm1, now
    "load": op_load,
}


def main():
    for line in sys.stdin.buffer:
        q = json.loads(line)
        try:
            reply = OPERATIONS[q["op"]](q)
        except Refused as refused:
            reply = {"reason": refused.args[0]}
        except Exception as error:
            reply = {"error": repr(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
