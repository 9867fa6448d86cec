"""moto's S3 server in a process of its own: ``python tests/servers/s3.py PORT_FILE``."""

import os
import sys
import time
from pathlib import Path

from moto.server import ThreadedMotoServer


def main():
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    temporary = Path(sys.argv[1] + ".new")
    temporary.write_text(str(server.get_host_and_port()[1]))
    temporary.rename(sys.argv[1])
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
