"""Stores to measure: nginx and an S3 server, each behind a link of a known rate and a known delay.

The server runs in a network namespace of its own; a veth pair with a token bucket (tc tbf) is the link.
Needs root, iproute2, nginx (Debian's ``nginx-light``) and, for S3, an interpreter that has ``moto[server]``.
The delay is added by a proxy beside the server, since tc netem is not in every kernel.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NAMESPACE, OURS, THEIRS = "hocket-store", "10.77.0.1", "10.77.0.2"
NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen {address}:8080; root {root}; }}
}}
"""


@contextmanager
def link(mbit: float) -> Iterator[None]:
    """A network namespace behind a link of ``mbit`` Mbit/s in both directions."""
    _run("ip", "netns", "delete", NAMESPACE, check=False)
    _run("ip", "netns", "add", NAMESPACE)
    try:
        _run("ip", "link", "add", "hk0", "type", "veth", "peer", "name", "hk1", "netns", NAMESPACE)
        _run("ip", "addr", "add", f"{OURS}/24", "dev", "hk0")
        _run("ip", "link", "set", "hk0", "up")
        inside = ("ip", "netns", "exec", NAMESPACE)
        _run(*inside, "ip", "addr", "add", f"{THEIRS}/24", "dev", "hk1")
        _run(*inside, "ip", "link", "set", "hk1", "up")
        _run(*inside, "ip", "link", "set", "lo", "up")
        shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "50ms")
        _run("tc", "qdisc", "add", "dev", "hk0", *shape)
        _run(*inside, "tc", "qdisc", "add", "dev", "hk1", *shape)
        yield
    finally:
        _run("ip", "netns", "delete", NAMESPACE, check=False)
        _run("ip", "link", "delete", "hk0", check=False)


@contextmanager
def nginx(root: Path, scratch: Path, *, behind_link: bool, delay_ms: float = 0.0) -> Iterator[str]:
    """Nginx over a folder; its address."""
    host = THEIRS if behind_link else "127.0.0.1"
    scratch.mkdir(parents=True, exist_ok=True)
    config = scratch / "nginx.conf"
    config.write_text(NGINX.format(folder=scratch, address=host, root=root))
    scratch.chmod(0o777)
    with ExitStack() as stack:
        stack.enter_context(
            _server(["nginx", "-c", str(config), "-p", str(scratch)], behind_link, host, 8080)
        )
        port = stack.enter_context(_delayed(host, 8080, behind_link, delay_ms))
        yield f"http://{host}:{port}"


@contextmanager
def s3(root: Path, python: str, *, behind_link: bool, delay_ms: float = 0.0) -> Iterator[tuple[str, str]]:
    """Moto's S3 server with a bucket that holds a folder: address of the store, and its endpoint."""
    host = THEIRS if behind_link else "127.0.0.1"
    command = [python, "-m", "moto.server", "-H", host, "-p", "5555"]
    os.environ.update(
        AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_DEFAULT_REGION="us-east-1"
    )
    with ExitStack() as stack:
        stack.enter_context(_server(command, behind_link, host, 5555))
        _fill(root, f"http://{host}:5555")
        port = stack.enter_context(_delayed(host, 5555, behind_link, delay_ms))
        yield "s3://bench/corpus", f"http://{host}:{port}"


def _fill(root: Path, endpoint: str) -> None:
    import fsspec

    files = fsspec.filesystem("s3", endpoint_url=endpoint, skip_instance_cache=True)
    files.mkdir("bench")
    for path in sorted(root.rglob("*")):
        if path.is_file():
            files.pipe_file(f"bench/corpus/{path.relative_to(root)}", path.read_bytes())


@contextmanager
def _delayed(host: str, port: int, behind_link: bool, delay_ms: float) -> Iterator[int]:
    if not delay_ms:
        yield port
        return
    command = [sys.executable, __file__, host, str(port + 1), str(port), str(delay_ms)]
    with _server(command, behind_link, host, port + 1):
        yield port + 1


@contextmanager
def _server(command: list[str], behind_link: bool, host: str, port: int) -> Iterator[None]:
    inside = ["ip", "netns", "exec", NAMESPACE] if behind_link else []
    process = subprocess.Popen([*inside, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} left with {process.returncode}")
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{command[0]} does not answer")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _proxy(host: str, port: int, upstream: int, seconds: float) -> None:
    """Every byte of an answer comes so many seconds later; the rate stays what it is."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(host, upstream)
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=4096)

        async def questions() -> None:
            while data := await reader.read(1 << 16):
                to_server.write(data)
                await to_server.drain()
            to_server.close()

        async def answers() -> None:
            while data := await from_server.read(1 << 16):
                await late.put((time.monotonic() + seconds, data))
            await late.put((0.0, b""))

        async def deliver() -> None:
            while True:
                due, data = await late.get()
                if not data:
                    break
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                writer.write(data)
                await writer.drain()
            writer.close()

        await asyncio.gather(questions(), answers(), deliver(), return_exceptions=True)

    server = await asyncio.start_server(connected, host, port)
    await server.serve_forever()


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=not check)


if __name__ == "__main__":
    asyncio.run(_proxy(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]) / 1000))
