"""Push, read, pull and push again on emulators of Google Cloud Storage and Azure.

    pip install 'lazygraph[gs,az]' gcp-storage-emulator
    npm install azurite
    python tools/emulators.py --azurite node_modules/.bin/azurite-blob

The test suite does not run this, because it would install both clients. Without ``--azurite``, only Google Cloud
Storage is tried. The script ends with an error if anything differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.reading.verify import verify

# The public account of every Azurite.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURE = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY};"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
)


def check(url, folder):
    """One dataset, published, read, pulled and published again."""
    path = folder / "p.lg"
    sent = lg.push(path, url, progress=False).sent
    ds = lg.LazyGraphDataset(url)
    assert ds.manifest == Manifest.load(path)
    assert sum(batch.num_graphs for batch in lg.loader(ds, 50, shuffle=True)) == len(ds)
    assert verify(url).problems == ()
    lg.pull(url, folder / f"{url.partition(':')[0]}.lg", progress=False)
    assert lg.push(path, url, progress=False).sent == 0
    cells = [[[4 + n / 100, 0, 0], [0, 4, 0], [0, 0, 4]] for n in range(20)]
    rows = [(f"id-{n}", lg.Crystal(cell, [[0, 0, 0]], [11])) for n, cell in enumerate(cells)]
    lg.append(path, rows, workers=1, progress=False)
    more = lg.push(path, url, progress=False).sent
    assert 0 < more < sent
    assert len(lg.LazyGraphDataset(url)) == len(ds) + 20
    print(f"{url}: {sent:,} bytes sent, {more:,} after an append; read, verified and pulled")


def google(folder):
    from gcp_storage_emulator.server import create_server

    os.environ |= {"STORAGE_EMULATOR_HOST": "http://localhost:9023", "GCSFS_DEFAULT_PROJECT": "emulated"}
    server = create_server("localhost", 9023, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        check("gs://bucket/p.lg", folder)
    finally:
        server.stop()


def azure(folder, program):
    from azure.storage.blob import BlobServiceClient

    os.environ["AZURE_STORAGE_CONNECTION_STRING"] = AZURE
    command = [program, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        BlobServiceClient.from_connection_string(AZURE).create_container("bucket")
        check("az://bucket/p.lg", folder)
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--azurite", help="the program azurite-blob")
    options = parser.parse_args()
    for try_one in (google, azure):
        if try_one is azure and options.azurite is None:
            print("Azure was not tried: give --azurite")
            continue
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["LAZYGRAPH_CACHE"] = f"{temporary}/cache"
            folder = Path(temporary)
            lg.write("prototypes:200?seed=0", folder / "p.lg", graph="cgcnn", workers=1, shard_size=64, progress=False)
            try_one(folder, *([options.azurite] if try_one is azure else []))


if __name__ == "__main__":
    main()
