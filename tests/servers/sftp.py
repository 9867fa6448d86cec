# ruff: noqa: ASYNC110, ASYNC240, E501
"""asyncssh's SFTP server for a folder: ``python tests/servers/sftp.py ROOT HOST_KEY CLIENT_PUBLIC_KEY PORT_FILE``."""

import asyncio
import os
import sys
from pathlib import Path

import asyncssh


async def main(root, host_key, client_key, port_file):
    class Folder(asyncssh.SFTPServer):
        def __init__(self, connection):
            super().__init__(connection, chroot=os.fsencode(root))

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=client_key, sftp_factory=Folder
    )
    temporary = Path(port_file + ".new")
    temporary.write_text(str(server.sockets[0].getsockname()[1]))
    temporary.rename(port_file)
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
