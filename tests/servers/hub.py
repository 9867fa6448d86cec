# ruff: noqa: ASYNC110, ASYNC240, E501
"""A Hub in memory that the real ``huggingface_hub`` reads from and publishes to.

    python tests/servers/hub.py PORT_FILE

It keeps repositories with commits, branches, large files (LFS) and ranges, as https://huggingface.co does. Files that
are large are sent by a redirect to another host. ``POST /_fault`` with ``{"kind": "publish"}`` lets somebody else
publish before the next commit, ``{"kind": "lose"}`` loses the answer to the next commit, and ``GET /_log`` gives
the requests since the last call.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

LARGE = 10 * 2**20
REPO = "/{ns}/{name}"
API = "/api/{kind:models|datasets|spaces}" + REPO


@dataclass
class Repository:
    commits: dict = field(default_factory=dict)  # sha -> {path: (is large, oid, size)}
    parents: dict = field(default_factory=dict)
    heads: dict = field(default_factory=dict)

    def commit(self, files, branch="main"):
        sha = hashlib.sha1(json.dumps([len(self.commits), sorted(files.items())]).encode()).hexdigest()
        self.commits[sha], self.parents[sha] = files, self.heads.get(branch)
        self.heads[branch] = sha
        return sha

    def resolve(self, revision):
        revision = revision or "main"
        return self.heads.get(revision) or (revision if revision in self.commits else None)


class Failure(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    def __init__(self):
        self.repositories, self.blobs, self.log, self.faults = {}, {}, [], []

    # ---- what is asked for ----

    def repository(self, request):
        kind = request.match_info.get("kind", "models").rstrip("s")
        key = kind, f"{request.match_info['ns']}/{request.match_info['name']}"
        if key not in self.repositories:
            raise Failure(404, "RepoNotFound", "Repository not found")
        return self.repositories[key]

    def files(self, request):
        repository = self.repository(request)
        sha = repository.resolve(request.match_info.get("rev"))
        if sha is None:
            raise Failure(404, "RevisionNotFound", "Invalid rev id")
        return sha, repository.commits[sha]

    async def create(self, request):
        told = await request.json()
        name = f"{told.get('organization') or 'me'}/{told['name'].split('/')[-1]}"
        key = told.get("type") or "model", name
        url = f"{request.scheme}://{request.host}/{key[0]}s/{name}"
        if key in self.repositories:
            return web.json_response({"error": "exists", "url": url}, status=409)
        self.repositories[key] = Repository()
        self.repositories[key].commit({})
        return web.json_response({"url": url, "name": name, "id": name})

    async def info(self, request):
        sha, files = self.files(request)
        name = f"{request.match_info['ns']}/{request.match_info['name']}"
        return web.json_response({
            "_id": "x", "id": name, "sha": sha, "private": False, "gated": False, "disabled": False, "downloads": 0,
            "likes": 0, "tags": [], "siblings": [{"rfilename": path} for path in files],
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
        })  # fmt: skip

    @staticmethod
    def entry(path, file):
        large, oid, size = file
        told = {"type": "file", "path": path, "size": size, "oid": oid[:40]}
        return {**told, "lfs": {"oid": oid, "size": size, "pointerSize": 134}} if large else told

    async def tree(self, request):
        _, files = self.files(request)
        prefix = request.match_info.get("path", "").strip("/")
        found = [self.entry(p, f) for p, f in sorted(files.items()) if not prefix or p.startswith(prefix + "/")]
        if prefix and not found:
            raise Failure(404, "EntryNotFound", "not found")
        return web.json_response(found)

    async def paths_info(self, request):
        _, files = self.files(request)
        told = (
            await request.json()
            if "json" in request.content_type
            else {"paths": (await request.post()).getall("paths")}
        )
        return web.json_response([self.entry(path, files[path]) for path in told["paths"] if path in files])

    # ---- publishing ----

    async def preupload(self, request):
        told = await request.json()
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] > LARGE or f["path"].endswith((".lmdb", ".npy")) else
             "regular", "shouldIgnore": False} for f in told["files"]
        ]  # fmt: skip
        return web.json_response({"files": modes})

    async def batch(self, request):
        told = await request.json()
        objects = []
        for wanted in told["objects"]:
            one = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.blobs:
                base = f"{request.scheme}://{request.host}"
                one["actions"] = {
                    "upload": {"href": f"{base}/_lfs/{wanted['oid']}"},
                    "verify": {"href": f"{base}/_verify"},
                }
            objects.append(one)
        return web.json_response({"transfer": "basic", "objects": objects})

    async def put(self, request):
        content = await request.read()
        if hashlib.sha256(content).hexdigest() != request.match_info["oid"]:
            return web.Response(status=400)
        self.blobs[request.match_info["oid"]] = content
        return web.Response()

    async def verify(self, request):
        told = await request.json()
        return web.Response(status=200 if len(self.blobs.get(told["oid"], b"")) == told["size"] else 422)

    async def commit(self, request):
        repository, branch = self.repository(request), request.match_info["rev"]
        if self.fault("publish"):
            files = dict(repository.commits[repository.heads[branch]])
            self.blobs["else"] = b"somebody else"
            repository.commit({**files, "else.txt": (False, "else", 13)}, branch)
        head = repository.heads.get(branch)
        if head is None:
            raise Failure(404, "RevisionNotFound", "Invalid rev id")
        files = dict(repository.commits[head])
        for line in (await request.read()).splitlines():
            if not line.strip():
                continue
            told = json.loads(line)
            key, value = told["key"], told["value"]
            if key == "header":
                if value.get("parentCommit") not in (None, head):
                    return web.json_response(
                        {"error": "A commit has happened since. Please refresh and try again."}, status=412
                    )
            elif key == "file":
                content = base64.b64decode(value["content"])
                oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                self.blobs[oid] = content
                files[value["path"]] = False, oid, len(content)
            elif key == "lfsFile":
                files[value["path"]] = True, value["oid"], len(self.blobs[value["oid"]])
            elif key == "deletedFile":
                files.pop(value["path"], None)
        sha = repository.commit(files, branch)
        if self.fault("lose"):
            request.transport.abort()
        return web.json_response(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"http://{request.host}{request.path.removeprefix('/api').partition('/commit/')[0]}/commit/{sha}",
                "hookOutput": "",
            }
        )

    async def yaml(self, request):
        return web.json_response({"errors": [], "warnings": []})

    async def who(self, request):
        if "Authorization" not in request.headers:
            return web.json_response({"error": "no token"}, status=401)
        return web.json_response(
            {
                "type": "user",
                "name": "me",
                "fullname": "me",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": "write"}},
            }
        )

    # ---- files ----

    async def resolve(self, request):
        sha, files = self.files(request)
        file = files.get(request.match_info["path"])
        if file is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": sha}
            return web.Response(status=404, headers=headers)
        large, oid, size = file
        headers = {"X-Repo-Commit": sha, "ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        if large:
            host = f"localhost:{request.host.rpartition(':')[2]}"
            headers |= {
                "X-Linked-Size": str(size),
                "X-Linked-ETag": f'"{oid}"',
                "Location": f"http://{host}/_cdn/{oid}",
            }
            return web.Response(status=302, headers=headers)
        return self.body(request, self.blobs[oid], headers)

    async def cdn(self, request):
        oid = request.match_info["oid"]
        return self.body(request, self.blobs[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    @staticmethod
    def body(request, content, headers):
        found = re.match(r"bytes=(\d+)-(\d*)$", request.headers.get("Range", ""))
        if found and request.method == "GET":
            first = int(found[1])
            last = min(int(found[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
            said = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            return web.Response(status=206, body=content[first : last + 1], headers={**headers, **said})
        length = {"Content-Length": str(len(content))} if request.method == "HEAD" else {}
        return web.Response(body=content, headers={**headers, **length})

    # ---- tests ----

    def fault(self, kind):
        if kind in self.faults:
            self.faults.remove(kind)
            return True
        return False

    async def set_fault(self, request):
        self.faults.append((await request.json())["kind"])
        return web.Response()

    async def read_log(self, request):
        log, self.log = self.log, []
        return web.json_response(log)

    @web.middleware
    async def middleware(self, request, handler):
        if not request.path.startswith("/_log"):
            self.log.append({"method": request.method, "path": request.path, "range": request.headers.get("Range"),
                             "host": request.host, "authorization": request.headers.get("Authorization")})  # fmt: skip
        try:
            return await handler(request)
        except Failure as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            return web.json_response({"error": str(error)}, status=error.status, headers=headers)


def application(hub):
    app = web.Application(client_max_size=2**30, middlewares=[hub.middleware])
    app.add_routes([
        web.post("/_fault", hub.set_fault), web.get("/_log", hub.read_log), web.get("/_cdn/{oid}", hub.cdn),
        web.put("/_lfs/{oid}", hub.put), web.post("/_verify", hub.verify),
        web.post("/api/repos/create", hub.create), web.get("/api/whoami-v2", hub.who),
        web.post("/api/validate-yaml", hub.yaml),
        web.get(API, hub.info), web.get(API + "/revision/{rev}", hub.info),
        web.get(API + "/tree/{rev}", hub.tree), web.get(API + "/tree/{rev}/{path:.*}", hub.tree),
        web.post(API + "/paths-info/{rev}", hub.paths_info), web.post(API + "/preupload/{rev}", hub.preupload),
        web.post(API + "/commit/{rev}", hub.commit),
        web.post("/{kind:datasets|spaces}" + REPO + ".git/info/lfs/objects/batch", hub.batch),
        web.post(REPO + ".git/info/lfs/objects/batch", hub.batch),
        web.get("/{kind:datasets|spaces}" + REPO + "/resolve/{rev}/{path:.+}", hub.resolve),
        web.get(REPO + "/resolve/{rev}/{path:.+}", hub.resolve),
    ])  # fmt: skip
    return app


async def main():
    runner = web.AppRunner(application(Hub()))
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)  # for 127.0.0.1 and localhost are its two hosts
    await site.start()
    temporary = Path(sys.argv[1] + ".new")
    temporary.write_text(str(site._server.sockets[0].getsockname()[1]))
    temporary.rename(sys.argv[1])
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
