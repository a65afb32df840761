"""Mints and opens chat tokens: a second implementation of SPEC.md.

It follows SPEC.md on other libraries, to check that it says enough, and favours
likeness to its tables over speed. It needs libsodium (PyNaCl's bindings) and
a CBOR decoder (cbor2).

As a program it reads requests from standard input and writes replies to
standard output, one JSON object a line; see OPERATIONS at the end. Byte strings
are in hexadecimal and times are Unix seconds.
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

PREFIX = "ct1_"
MAX_TIME = 253402300799
CAPABILITIES = ["SEND_MESSAGE", "DISCONNECT_USER", "DELETE_MESSAGE"]
ROOM = re.compile(r"arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+")


class Refused(Exception):
    """Says why a token is refused, in a word of SPEC.md section 6."""


class BadRing(Exception):
    """Says what is wrong with a sealed ring or its KEK."""


# Section 2: notation.


def hkdf(secret, info, size):
    """HKDF-SHA256 with an empty salt, for up to one block of output."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:size]


def spell(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unspell(text):
    """Decodes base64url in its one spelling; None for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if spell(data) == text else None


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in (24, 1), (25, 2), (26, 4), (27, 8):
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
        pairs = sorted((encode(k), encode(v)) for k, v in value.items())
        return head(5, len(pairs)) + b"".join(k + v for k, v in pairs)
    raise TypeError("no such type in SPEC.md")


def decode(data):
    """Decodes the one encoding of a value; None for anything else."""
    try:
        value = cbor2.loads(data)
        return value if encode(value) == data else None
    except Exception:  # the decoder has many, down to RecursionError
        return None


def is_uint(value, least, most):
    return type(value) is int and least <= value <= most


def is_list(value, size):
    return type(value) is list and len(value) == size


# Section 3: keys.


def derive(secret, context):
    if len(secret) != 32 or secret == bytes(32) or len(context) > 255:
        raise BadRing("secret or context")
    key = hkdf(secret, b"chattoken/v1 key\x00" + context, 32)
    return key, hkdf(secret, b"chattoken/v1 key-id\x00" + context, 4)


# Section 4: token.


def size(attributes):
    return sum(len(text.encode()) for pair in attributes.items() for text in pair)


def is_payload(p):
    """Whether p is as section 4 says, but for the bounds of the TTL."""
    return (
        is_list(p, 7)
        and type(p[0]) is str and 1 <= len(p[0].encode()) <= 128
        and type(p[1]) is str and 1 <= len(p[1]) <= 128
        and is_uint(p[2], 0, 7)
        and type(p[3]) is dict
        and all(type(k) is str and k and type(v) is str for k, v in p[3].items())
        and size(p[3]) <= 1024
        and is_uint(p[4], 0, MAX_TIME)
        and is_uint(p[5], 0, 2**64 - 1)
        and is_uint(p[6], 1, 180)
    )


def ttl_in_bounds(p):
    return 5 <= p[5] <= min(600, 60 * p[6])


# Section 5: minting.


def mint(ring, claims, now, ttl=None, room=ROOM, nonce=None):
    """Mints a token. Only a test has a nonce to give."""
    minutes = claims.get("sessionDurationInMinutes", 60)
    names = claims.get("capabilities", [])
    if ttl is None:
        ttl = min(60, ring.max_ttl)
    if not is_uint(ttl, 5, ring.max_ttl):
        raise ValueError("TTL")
    payload = [
        claims["roomIdentifier"],
        claims["userId"],
        sum({1 << CAPABILITIES.index(name) for name in names}),
        claims.get("attributes", {}),
        now,
        min(ttl, 60 * minutes),
        minutes,
    ]
    if not is_payload(payload) or (room and not room.fullmatch(payload[0])):
        raise ValueError("claims")
    key, key_id = ring.primary(now)
    aad = PREFIX.encode() + key_id
    nonce = nonce or os.urandom(24)
    return PREFIX + spell(key_id + nonce + xc20p_seal(encode(payload), aad, nonce, key))


# Section 6: opening.


def verify(ring, text, now):
    """Makes checks 1 to 10; returns the payload and the token ID."""
    if not 76 <= len(text) <= 3850 or not text.startswith(PREFIX):
        raise Refused("malformed")
    box = unspell(text[len(PREFIX):])
    if box is None:
        raise Refused("malformed")
    key_id, nonce, ciphertext = box[:4], box[4:28], box[28:]
    key = ring.opens(key_id, now)
    try:
        plaintext = xc20p_open(ciphertext, PREFIX.encode() + key_id, nonce, key)
    except CryptoError:
        raise Refused("forged") from None
    p = decode(plaintext)
    if not is_payload(p):
        raise Refused("payload")
    if p[4] > now + ring.clock_skew:
        raise Refused("not-yet-valid")
    if not ttl_in_bounds(p):
        raise Refused("payload")
    if now >= p[4] + p[5]:
        raise Refused("expired")
    return p, nonce[:16]


def claims_of(p):
    claims = {"roomIdentifier": p[0], "userId": p[1], "sessionDurationInMinutes": p[6]}
    if p[2]:
        claims["capabilities"] = [n for i, n in enumerate(CAPABILITIES) if p[2] >> i & 1]
    if p[3]:
        claims["attributes"] = p[3]
    return claims


# Section 8: ring.

TIMES = ["created", "activates", "retires", "expires", "revoked"]


class Key:
    def __init__(self, context, secret, *times):
        self.key, self.id = derive(secret, context)
        for name, value in zip(TIMES, times, strict=True):
            setattr(self, name, value)

    def state(self, now):
        if self.revoked:
            return "revoked"
        if self.expires and now >= self.expires:
            return "expired"
        if now < self.activates:
            return "pending"
        if self.retires and now >= self.retires:
            return "retired"
        return "primary"


class Ring:
    def __init__(self, serial, policy, chain, revoked):
        self.serial, self.chain, self.revoked = serial, chain, revoked
        self.max_ttl, self.clock_skew, self.period, self.lead = policy
        self.check()

    @classmethod
    def of_secret(cls, secret, context):
        """A ring of one key that opens and seals at any time."""
        return cls(1, [600, 5, 2592000, 3600], [Key(context, secret, 0, 0, 0, 0, 0)], [])

    def keys(self):
        return self.chain + self.revoked

    def check(self):
        ids = {k.id for k in self.keys()}
        if not 1 <= len(ids) == len(self.keys()) <= 4096 or not self.chain:
            raise BadRing("number of keys, or an ID twice")
        policy_ok = (
            is_uint(self.max_ttl, 5, 600)
            and is_uint(self.clock_skew, 1, 60)
            and is_uint(self.period, 1, 366 * 86400)
            and is_uint(self.lead, self.clock_skew + 1, self.period)
        )
        if not policy_ok or not is_uint(self.serial, 1, 2**63 - 1):
            raise BadRing("policy or serial")
        if not all(is_uint(getattr(k, n), 0, MAX_TIME) for k in self.keys() for n in TIMES):
            raise BadRing("times")
        if not self.follow_each_other() or not all(k.revoked and k.expires for k in self.revoked):
            raise BadRing("chain")

    def follow_each_other(self):
        last = self.chain[-1]
        overlap = self.max_ttl + 2 * self.clock_skew
        return (
            self.chain[0].activates == 0
            and all(
                k.activates < k.retires == after.activates and k.expires >= k.retires + overlap
                for k, after in zip(self.chain, self.chain[1:])
            )
            and not last.retires
            and not last.expires
            and not any(k.revoked for k in self.chain)
        )

    def primary(self, now):
        [k] = [k for k in self.chain if k.state(now) == "primary"]
        return k.key, k.id

    def opens(self, key_id, now):
        for k in self.keys():
            if k.id == key_id:
                state = k.state(now)
                if state == "revoked":
                    raise Refused("revoked-key")
                if state == "expired":
                    raise Refused("unknown-key")
                return k.key
        raise Refused("unknown-key")


def cut(data, n):
    if len(data) < n:
        raise BadRing("cut off")
    return data[:n], data[n:]


def unwrap(kek_text, kek_id, wrapped):
    """Undoes the wrapping by a local KEK."""
    prefix = "chattoken-kek1_"
    kek = unspell(kek_text[len(prefix):])
    if not kek_text.startswith(prefix) or kek is None or len(kek) != 32 or kek == bytes(32):
        raise BadRing("text of the KEK")
    own_id = b"local-" + hkdf(kek, b"chattoken/v1 kek-id\x00", 8).hex().encode()
    if kek_id != own_id or len(wrapped) != 72:
        raise BadRing("another KEK")
    return xc20p_open(wrapped[24:], own_id, wrapped[:24], hkdf(kek, b"chattoken/v1 kek\x00", 32))


def unseal(kek_text, sealed, context):
    """Returns the document: all of the plaintext in form 1, and its end in form 2."""
    magic, rest = cut(sealed, 17)
    form, rest = cut(rest, 1)
    if magic != b"chattoken-keyring" or form[0] not in (1, 2) or len(sealed) > 1 << 20:
        raise BadRing("not a sealed ring")
    n, rest = cut(rest, 1)
    kek_id, rest = cut(rest, n[0])
    n, rest = cut(rest, 2)
    wrapped, rest = cut(rest, int.from_bytes(n, "big"))
    header = sealed[:len(sealed) - len(rest)]
    nonce, ciphertext = cut(rest, 24)
    cut(ciphertext, 16)
    try:
        plaintext = xc20p_open(ciphertext, header, nonce, unwrap(kek_text, kek_id, wrapped))
    except CryptoError:
        raise BadRing("not authentic") from None
    if form[0] == 1:
        return plaintext
    digest, document = cut(plaintext, 32)
    if digest != hashlib.sha256(b"chattoken/v1 context\x00" + context).digest():
        raise BadRing("another context")
    return document


def load(kek_text, sealed, context):
    """Loads a ring of which no earlier serial is known."""
    document = decode(unseal(kek_text, sealed, context))
    if not is_list(document, 4):
        raise BadRing("document")
    serial, policy, *lists = document
    if not is_list(policy, 4) or not all(type(keys) is list for keys in lists):
        raise BadRing("document")
    if not all(is_list(k, 6) and type(k[0]) is bytes for keys in lists for k in keys):
        raise BadRing("document")
    ring = Ring(serial, policy, *([Key(context, *k) for k in keys] for keys in lists))
    if ring.serial > 2**62:
        raise BadRing("serial too far ahead")
    return ring


# The program.


def ring_of(q):
    """The ring of a request: a sealed one with its KEK, or a secret's."""
    context = bytes.fromhex(q["context"])
    if "secret" in q:
        return Ring.of_secret(bytes.fromhex(q["secret"]), context)
    return load(q["kek"], bytes.fromhex(q["sealed"]), context)


def op_derive(q):
    key, key_id = derive(bytes.fromhex(q["secret"]), bytes.fromhex(q["context"]))
    return {"key": key.hex(), "keyID": key_id.hex()}


def op_mint(q):
    room = None if q.get("anyRoom") else ROOM
    nonce = bytes.fromhex(q.get("nonce", ""))
    return {"token": mint(ring_of(q), q["claims"], q["now"], q.get("ttl"), room, nonce)}


def op_open(q):
    try:
        p, token_id = verify(ring_of(q), q["token"], q["now"])
    except Refused as refused:
        return {"reason": str(refused)}
    return {
        "reason": "",
        "claims": claims_of(p),
        "issuedAt": p[4],
        "ttl": p[5],
        "tokenID": token_id.hex(),
        "payload": encode(p).hex(),
    }


def op_ring(q):
    try:
        ring = ring_of(q)
    except BadRing as bad:
        return {"reason": str(bad)}
    keys = [
        {"keyID": k.id.hex(), "state": k.state(q["now"])} | {n: getattr(k, n) for n in TIMES}
        for k in ring.keys()
    ]
    return {"reason": "", "serial": ring.serial, "keys": keys}


OPERATIONS = {
    "derive": op_derive,  # secret, context
    "mint": op_mint,  # claims, now, a ring; ttl, nonce, anyRoom
    "open": op_open,  # token, now, a ring
    "ring": op_ring,  # now, a ring: secret or sealed and kek, and context
}


def main():
    for line in sys.stdin.buffer:
        q = json.loads(line)
        try:
            reply = OPERATIONS[q["op"]](q)
        except Exception as error:
            reply = {"error": repr(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
