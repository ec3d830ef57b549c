"""Servers on loopback that answer as they are told: like MLflow as far as runs need it, or wrongly.

A tracking store is only as good as the network, the proxies and the databases on the way to it.
"""

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, str, bytes]
Ask = Callable[[str, bytes], Answer | None]  # None: the connection is dropped
OK = "application/json"


@contextmanager
def answering(ask: Ask, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers requests (path, body) as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = ask(self.path, body)
            if answer is None:
                self.close_connection = True
                return
            code, kind, said = answer
            self.send_response(code)
            self.send_header("Location", kind) if code == 302 else self.send_header(
                "Content-Type", kind
            )
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            return  # clients that went away

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def speaking(first: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a socket that does something with every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=_one, args=(first, connection), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def _one(first: Callable[[socket.socket], object], connection: socket.socket) -> None:
    with connection:
        try:
            connection.recv(65536)
            first(connection)
        except OSError:
            return


def drip(connection: socket.socket) -> None:
    """An answer whose body never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.05)


def drip_header(connection: socket.socket) -> None:
    """An answer whose header never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Wait: ")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.05)


def hang(connection: socket.socket) -> None:
    """No answer, until the other side goes away."""
    connection.recv(1)


class Half:
    """An MLflow server, as far as runs need one, that goes wrong from its n-th request on."""

    def __init__(self, n_right: int, wrong: Answer | None) -> None:
        self.n_right, self.wrong, self.asked = n_right, wrong, 0

    def __call__(self, path: str, body: bytes) -> Answer | None:
        self.asked += 1
        if self.asked > self.n_right:
            return self.wrong
        at = path.split("?")[0].rpartition("/mlflow/")[2]
        return (200, OK, json.dumps(self.answers().get(at, {})).encode())

    def answers(self) -> dict[str, Any]:
        """What it says at each place."""
        run_id = f"{id(self):032x}"  # MLflow remembers where a run's artifacts are
        experiment = {"experiment_id": "1", "name": "semseg", "lifecycle_stage": "active",
                      "artifact_location": "mlflow-artifacts:/1"}  # fmt: skip
        info = {
            "run_id": run_id, "experiment_id": "1", "status": "RUNNING", "start_time": 1,
            "lifecycle_stage": "active", "artifact_uri": f"mlflow-artifacts:/1/{run_id}",
        }  # fmt: skip
        return {
            "experiments/search": {"experiments": [experiment]},
            "experiments/get-by-name": {"experiment": experiment},
            "experiments/get": {"experiment": experiment},
            "runs/create": {"run": {"info": info, "data": {}}},
            "runs/get": {"run": {"info": info, "data": {}}},
        }


def own_tls(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate that nobody trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
