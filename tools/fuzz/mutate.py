"""How inputs are changed beside libFuzzer's own ways: whole parts of JSON and msgpack, which bytes seldom become."""

from __future__ import annotations

import json
import random

import msgpack

VALUES = (
    None, True, -1, 0, 1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**40, 0.0, -0.0, 1e-320, 1e308, 1.5, "", "x",
    "\0", "\x1b[2J", "é", "\U0010ffff", "../x", "os:system", "__class__", "x" * 300, [], [[]], [0], {}, {"a": 1},
    "float64", "int8", "str", "bool", "node", "edge", "swap", "negate", "same", "lattice", "|S4", "<f8", "|O", "label",
    "zstd", "none",
)  # fmt: skip
PARTS = (
    -1, 0, 1, 2, 3, 127, 128, 2**16, 2**31 - 1, 2**31, 2**63, 2**64 - 1, b"", b"\0", b"\xff" * 8, b"\x84" * 6, 1.5,
    None, True, "", "text", [], {}, {b"a": 1}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2),
)  # fmt: skip


def of_json(data, rng):
    """A manifest, its last brace left out, with a value replaced, a key added or taken, or a part put elsewhere."""
    value = json.loads(data + b"}")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(5):
            case 0 | 1:
                holder[key] = rng.choice(VALUES)
            case 2:
                other, name = rng.choice(places)
                holder[key] = json.loads(json.dumps(other[name]))
            case 3:
                del holder[key]
            case 4 if isinstance(holder, dict):
                holder[rng.choice([v for v in VALUES if isinstance(v, str)])] = rng.choice(VALUES)
            case _:
                holder[key] = [holder[key]] * rng.choice((1, 2, 17))
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=rng.random() < 0.1).encode()[:-1]


def of_record(data, rng):
    """A record with parts replaced, exchanged, lengthened or changed in one bit."""
    parts = msgpack.unpackb(data[1:])
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(parts))
        part = parts[place]
        match rng.randrange(4):
            case 0:
                parts[place] = rng.choice(PARTS)
            case 1:
                other = rng.randrange(len(parts))
                parts[place], parts[other] = parts[other], part
            case 2 if isinstance(part, bytes) and part:
                changed = bytearray(part)
                changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
                parts[place] = bytes(changed)
            case 3 if isinstance(part, bytes):
                parts[place] = rng.choice((part * 2, part[: len(part) // 2], part + b"\0" * 8, part[1:]))
            case _ if isinstance(part, int):
                parts[place] = max(part + rng.choice((-2, -1, 1, 2)), 0)
    return data[:1] + msgpack.packb(parts)


MUTATORS = {"manifest": of_json, "record": of_record}


def mutator(target):
    """What atheris calls for a new input: one in four has only bytes changed."""
    own = MUTATORS[target]

    def mutate(data, most, seed):
        rng, data = random.Random(seed), bytes(data)
        if rng.random() < 0.75:
            try:
                made = own(data, rng)
            except Exception:  # noqa: BLE001 - it is no JSON, or no msgpack
                made = b""
            if 0 < len(made) <= most:
                return made
        return of_bytes(data, rng)[:most]

    return mutate


def of_bytes(data, rng):
    """Some bytes changed, taken or added."""
    out = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(out))
        match rng.randrange(3):
            case 0:
                out[place] ^= 1 << rng.randrange(8)
            case 1:
                out[place:place] = rng.choice((b"\0", b"\xff\xff\xff\xff", b"[[", b'"', bytes(out[:8])))
            case 2 if len(out) > 1:
                del out[place : place + rng.choice((1, 2, 8))]
        out = out or bytearray(b"\0")
    return bytes(out)


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
