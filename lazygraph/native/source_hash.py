"""The name of the compiled library, and the hash of the C sources, by which one that was compiled of others is known.

The hash is compiled into the library, and compared when that is loaded. Has no imports but the standard library's: the
build runs this file by itself.
"""

import hashlib
import sys
from pathlib import Path

__all__ = ["library_name", "source_hash"]


def library_name(system: str) -> str:
    """The name of the compiled library on a system, which is one of ``sys.platform``.

    Example:
        >>> [library_name(system) for system in ("linux", "darwin", "win32")]
        ['kernels.so', 'kernels.dylib', 'kernels.dll']
    """
    return f"kernels.{ {'win32': 'dll', 'darwin': 'dylib'}.get(system, 'so') }"


def source_hash(folder: Path) -> str:
    """sha256 in hex over the names and the contents of the C files of a folder."""
    found = hashlib.sha256()
    for file in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        content = file.read_bytes()
        found.update(f"{file.name}\n{len(content)}\n".encode() + content)
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(source_hash(Path(__file__).parent))
