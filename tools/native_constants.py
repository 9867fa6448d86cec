"""Make the C header of the constants and structures that Python states.

    python tools/native_constants.py            print lazygraph/native/constants.h
    python tools/native_constants.py --write    write it

A test compares. Each constant stands in the module that it belongs to, with its unit and its reason.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

from lazygraph.format import codec, encoding, native_types, record, record_batch, schema
from lazygraph.graphs import compiled, effort, lattice, neighbors, vectors

HEADER = Path(__file__).resolve().parents[1] / "lazygraph" / "native" / "constants.h"
BEGINNING = """\
/* Made by tools/native_constants.py of the Python modules that are named here. Do not edit. */
#include <stddef.h>
#include <stdint.h>
"""
CONSTANTS = {
    encoding: ("DECIMAL", "CARTESIAN", "HALF", "SCALE"),
    schema: ("MAX_AXES", "MAX_FIELDS", "MAX_TEXT", "MAX_VALUES"),
    record: ("MAX_COUNT",),
    codec: ("MAX_RECORD",),
    record_batch: ("ALIGNMENT",),
    native_types: ("ZSTD", "UNCOMPRESSED", "NOT_OPEN", "TOO_MUCH", "NOT_DIGESTED"),
    neighbors: ("MIN_DISTANCE", "MAX_RADIUS", "MAX_IMAGE", "SEARCH_MARGIN", "GUESS", "GROWTH"),
    compiled: ("RULE_RADIUS", "RULE_SHELL", "RULE_NEAREST"),
    effort: ("BORDER", "HAIR", "LEAST_RADIUS", "IMAGES_A_BOX", "ROUNDING"),
    lattice: ("MAX_IMAGES", "OBTUSE", "PARALLEL", "SLACK"),
    vectors: ("EDGE_VECTORS", "EDGE_SHIFTS", "EDGE_LENGTHS"),
}
STRUCTURES = {
    "field": native_types.CField,
    "library": native_types.CLibrary,
    "source": native_types.CSource,
    "rule": compiled.CRule,
}
TYPES = {
    ctypes.c_int64: "int64_t",
    ctypes.c_double: "double",
    ctypes.c_size_t: "size_t",
    ctypes.c_void_p: "void *",
    ctypes.c_char_p: "const void *",
    native_types.Bytes: "const uint8_t *",
    native_types.Int32s: "const int32_t *",
    native_types.Int64s: "const int64_t *",
}


def header():
    """The text of the header."""
    parts = [BEGINNING]
    for module, names in CONSTANTS.items():
        parts.append(f"\n/* {module.__name__} */\n")
        parts += [f"#define {name} {literal(getattr(module, name))}\n" for name in names]
    parts.append(f"\n/* {encoding.__name__}: stored types, by the low bits of a code byte, and their bytes */\n")
    stored = {f"{dtype.kind.upper()}{dtype.itemsize}": dtype.itemsize for dtype in encoding.STORED}
    parts.append(enumeration(stored))
    parts.append(f"#define STORED_BYTES {{{', '.join(map(str, [*stored.values(), *[0] * (16 - len(stored))]))}}}\n")
    parts.append(f"\n/* {native_types.__name__} */\n")
    parts.append(enumeration(f"PAIR_{name or 'none'}".upper() for name in native_types.PAIRS))
    parts.append(enumeration(f"KIND_{name}".upper() for name in ("integers", *native_types.KINDS)))
    for name, structure in STRUCTURES.items():
        parts.append(f"\n/* {structure.__module__}.{structure.__name__} */\n{declaration(name, structure)}")
    return "".join(parts)


def literal(value):
    """A constant in C: a float with all its bits, an integer as it is."""
    text = repr(value) if value < 2**31 or isinstance(value, float) else f"{value}ll"
    return f"({text})" if value < 0 else text


def enumeration(names):
    return f"enum {{ {', '.join(names)} }};\n"


def declaration(name, structure):
    """A structure in C."""
    members = (f"    {member(kind, field)};\n" for field, kind, *_ in structure._fields_)
    return f"typedef struct {{\n{''.join(members)}}} {name};\n"


def member(kind, name):
    if issubclass(kind, ctypes.Array):
        return f"{member(kind._type_, name)}[{kind._length_}]"
    if issubclass(kind, ctypes._CFuncPtr):
        return f"{TYPES[kind._restype_]} (*{name})({', '.join(TYPES[one] for one in kind._argtypes_)})"
    space = "" if TYPES[kind].endswith("*") else " "
    return f"{TYPES[kind]}{space}{name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file")
    if parser.parse_args().write:
        HEADER.write_text(header())
    else:
        sys.stdout.write(header())
