"""A web server on this machine that serves one file, and can break off."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves one archive; ``cut`` ends each answer after so many bytes, ``ranges`` says whether it can continue.

    ``length`` is what it says of the length, if not the truth.
    """

    def __init__(self, data):
        self.data, self.cut, self.ranges, self.length = data, None, True, None
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and outer.ranges else 0
                if start and start >= len(outer.data):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", outer.length or str(len(outer.data) - start))
                self.end_headers()
                self.wfile.write(outer.data[start:][: outer.cut])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/voc.tar"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def options(self):
        known_hash = "md5:" + hashlib.md5(self.data).hexdigest()
        return {"url": self.url, "known_hash": known_hash, "progress": False, "timeout": 5}
