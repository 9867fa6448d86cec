# ruff: noqa: ASYNC110, ASYNC240, E501
"""A web server for a folder, in a process of its own, that can be told to fail in every way that servers do.

    python tests/servers/web.py FOLDER PORT_FILE

Faults are set by ``POST /_fault`` with JSON: ``{"kind": ..., "match": regular expression of paths, "times": N, ...}``.
``GET /_log`` gives the requests since it was read last, with the bytes that were sent.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import os
import re
import sys
from pathlib import Path

from aiohttp import web

RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class Server:
    def __init__(self, root):
        self.root = Path(root)
        self.faults = []
        self.log = []
        self.delay = 0.0  # s, of every answer
        self.rate = None  # bytes a second, of all answers together
        self.free_at = 0.0

    async def fault(self, request):
        told = await request.json()
        if told["kind"] == "clear":
            self.faults.clear()
        elif told["kind"] == "line":
            self.delay, self.rate = told.get("delay", 0.0), told.get("rate")
        else:
            self.faults.append(told)
        return web.Response()

    async def read_log(self, request):
        log, self.log = self.log, []
        return web.json_response(log)

    def taken(self, request, kinds):
        """The first fault of these kinds for a request, which is used up after its number of times."""
        for fault in self.faults:
            if fault["kind"] in kinds and re.search(fault.get("match", ""), request.path):
                times = fault.get("times", 10**9)
                if times > 0:
                    fault["times"] = times - 1
                    return fault
        return None

    async def handle(self, request):
        entry = {"method": request.method, "path": request.path, "range": request.headers.get("Range"), "sent": 0,
                 "authorization": request.headers.get("Authorization"), "query": request.query_string}  # fmt: skip
        self.log.append(entry)
        await asyncio.sleep(self.delay)
        if fault := self.taken(request, ("status",)):
            return web.Response(status=fault["status"], headers=fault.get("headers", {}))
        if fault := self.taken(request, ("redirect",)):
            return web.Response(status=302, headers={"Location": fault["to"].replace("PATH", request.path)})
        if self.taken(request, ("drop",)):
            request.transport.abort()
            return web.Response()
        if fault := self.taken(request, ("hang",)):
            await asyncio.sleep(fault["seconds"])
        path = (self.root / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.root.resolve()) or not path.is_file():
            return web.Response(status=404)
        content = path.read_bytes()
        if fault := self.taken(request, ("wrong",)):
            place = fault.get("place", len(content) // 2) % max(len(content), 1)
            content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        if fault := self.taken(request, ("length",)):
            content = content[: fault["length"]] if fault["length"] >= 0 else content + b"x" * -fault["length"]
        return await self.answer(request, content, path, entry)

    async def answer(self, request, content, path, entry):
        headers = {
            "ETag": '"' + hashlib.sha256(content).hexdigest()[:16] + '"',
            "Last-Modified": email.utils.formatdate(path.stat().st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        status, first, last = 200, 0, len(content) - 1
        found = RANGE.match(request.headers.get("Range", ""))
        if found and not self.taken(request, ("no_ranges",)):
            first = int(found[1]) if found[1] else max(0, len(content) - int(found[2]))
            last = min(int(found[2]), len(content) - 1) if found[1] and found[2] else len(content) - 1
            if first >= len(content):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
            status = 206
            if self.taken(request, ("shift",)):
                first, last = first + 1, min(last + 1, len(content) - 1)
            if self.taken(request, ("short_range",)):
                last = (first + last) // 2
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            if self.taken(request, ("lie",)):  # other bytes than it says
                content = bytes(len(content))
        body = content[first : last + 1]
        if self.taken(request, ("gzip",)):
            headers["Content-Encoding"] = "gzip"
        answer = web.StreamResponse(status=status, headers=headers)
        if self.taken(request, ("endless",)):
            await answer.prepare(request)
            for _ in range(100000):
                await answer.write(bytes(2**16))
            return answer
        if self.taken(request, ("chunked",)):
            answer.enable_chunked_encoding()
        else:
            answer.content_length = len(body)
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        cut = self.taken(request, ("cut",))
        stop = len(body) if cut is None else int(cut.get("at", len(body) // 2)) % (len(body) + 1)
        for start in range(0, stop, 2**16):
            piece = body[start : min(start + 2**16, stop)]
            await self.pace(len(piece))
            await answer.write(piece)
            entry["sent"] += len(piece)
        if cut is not None:
            request.transport.abort()
        return answer

    async def pace(self, size):
        if self.rate is None:
            return
        now = asyncio.get_running_loop().time()
        self.free_at = max(now, self.free_at) + size / self.rate
        if self.free_at > now + 0.002:
            await asyncio.sleep(self.free_at - now)


def main():
    server = Server(sys.argv[1])
    app = web.Application()
    app.router.add_post("/_fault", server.fault)
    app.router.add_get("/_log", server.read_log)
    app.router.add_route("*", "/{path:.*}", server.handle)

    async def run():
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        temporary = Path(sys.argv[2] + ".new")
        temporary.write_text(str(port))
        temporary.rename(sys.argv[2])
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.5)

    asyncio.run(run())


if __name__ == "__main__":
    main()
