"""Serves the repositories below /srv/git by http, https and git, is an http proxy, and records what it is sent.

server.py CERTIFICATE KEY LOG AUTHORIZATION

A path is /open/CELL/REPOSITORY, or /private/CELL/REPOSITORY for whoever sends AUTHORIZATION. Each request is a line of LOG:
CELL WAY HOST AUTHORIZATION PROXY-AUTHORIZATION.
"""

import gzip
import http.server
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import urllib.parse

CERTIFICATE, KEY, LOG, AUTHORIZATION = sys.argv[1:]
HTTPS = 8443
log = open(LOG, "a", buffering=1)
refs = {}


def record(cell, way, host, headers=None):
    sent = [(headers or {}).get(name, "-").replace(" ", "_") for name in ("Authorization", "Proxy-Authorization")]
    log.write(" ".join([cell, way, host, *sent]) + "\n")


def repository(path):
    return "/srv/git/" + path.split("/")[3]


def listed(path):
    folder = repository(path)
    if folder not in refs:
        command = ["git", "upload-pack", "--stateless-rpc", "--advertise-refs", folder]
        refs[folder] = b"001e# service=git-upload-pack\n0000" + subprocess.check_output(command)
    return refs[folder]


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    way = "http"

    def do_CONNECT(self):
        record(self.path.split(".")[0], "connect", self.path, self.headers)
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with socket.create_connection(("127.0.0.1", HTTPS)) as there:
            other = threading.Thread(target=pump, args=(there, self.connection))
            other.start()
            pump(self.connection, there)
            other.join()
        self.close_connection = True

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.path = url.path
        record(self.path.split("/")[2], "proxy" if url.netloc else self.way, url.netloc or self.headers["Host"], self.headers)
        if self.path.startswith("/private/") and self.headers.get("Authorization") != AUTHORIZATION:
            return self.answer(401, "text/plain", b"", {"WWW-Authenticate": 'Basic realm="git"'})
        if self.command == "GET":
            return self.answer(200, "application/x-git-upload-pack-advertisement", listed(self.path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        command = ["git", "upload-pack", "--stateless-rpc", repository(self.path)]
        pack = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=False).stdout
        return self.answer(200, "application/x-git-upload-pack-result", pack)

    do_POST = do_GET

    def answer(self, code, kind, body, headers=None):
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class SecureWeb(Web):
    way = "https"


class Git(socketserver.StreamRequestHandler):
    """git-daemon(1): a packet with the command, the path and the host, and then the conversation of upload-pack."""

    def handle(self):
        length = int(self.rfile.read(4), 16)
        command, host = self.rfile.read(length - 4).split(b"\0")[:2]
        path = command.split(b" ", 1)[1].decode()
        record(path.split("/")[2], "git", host.decode())
        end = self.connection.fileno()
        subprocess.run(["git", "upload-pack", repository(path)], stdin=end, stdout=end, check=False)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    context = None

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def finish_request(self, request, client_address):
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, *_):
        pass


servers = [Server(("::", 8080), Web), Server(("::", HTTPS), SecureWeb), Server(("::", 9418), Git)]
servers[1].context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
servers[1].context.load_cert_chain(CERTIFICATE, KEY)
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
