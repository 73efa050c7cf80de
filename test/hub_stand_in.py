"""A stand-in for the Hugging Face hub: what huggingface_hub asks of it to take a commit."""

import base64
import http.server
import json
import threading
from urllib.parse import urlsplit


class Hub:
    """Serves on a local port, and keeps what is sent.

    Attributes:
        url: its address.
        asked: (method, path) of each request.
        tokens: values of the header Authorization.
        files: path -> content, of the last commit.
        refuse: status that answers every request instead; None: it works.
    """

    def __init__(self):
        self.asked, self.tokens, self.files, self.refuse = [], set(), {}, None
        self.stored = {}  # large files, by their SHA-256
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, body):
        """Answer a POST."""
        if path == "/api/repos/create":
            wanted = json.loads(body)
            return {"url": f"{self.url}/{wanted['organization']}/{wanted['name']}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".pth") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            found = json.loads(body)["objects"]
            return {
                "transfer": "basic",
                "objects": [
                    item | {"actions": {"upload": {"href": f"{self.url}/store/{item['oid']}"}}}
                    for item in found
                ],
            }
        assert path == "/api/models/me/model/commit/main", path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.stored[value["oid"]]
        return {"commitUrl": f"{self.url}/me/model/commit/0", "commitOid": "0" * 40}


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def _body(self):
        self.hub.asked.append((self.command, urlsplit(self.path).path))
        if "Authorization" in self.headers:
            self.hub.tokens.add(self.headers["Authorization"])
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):  # noqa: N802  (the base class looks for this name)
        body = self._body()
        if self.hub.refuse:
            return self._reply({"error": "No such token"}, self.hub.refuse)
        self._reply(self.hub.answer(urlsplit(self.path).path, body))

    def do_PUT(self):  # noqa: N802
        self.hub.stored[self.path.rsplit("/", 1)[1]] = self._body()
        self._reply({})

    def do_GET(self):  # noqa: N802
        self._body()
        self._reply({"error": "not found"}, self.hub.refuse or 404)

    def log_message(self, *_):
        """Say nothing."""
