"""nginx: HTTP and HTTPS with chosen answers, also slow and endless ones.

Its log has a line for each request: the request, the status, the Host header, the TLS server name and the agent.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.host import Host
from lab.servers.server import ASK_SECONDS, Recipe, Server, endpoint, folder

CONF = """\
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off;
user root;
worker_processes 1;
pid pid;
error_log stderr notice;
events { worker_connections 512; }
http {
    log_format asked '"$request" $status host=$http_host sni=$ssl_server_name agent="$http_user_agent"';
    access_log log asked;
    default_type text/plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    geo $dollar { default "$"; }    # nginx has no other way to write one
    server {
        include listen;
        include paths;
        location / { return 404; }
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a path answers; all other paths answer 404."""

    status: int = 200
    """With one that redirects, `body` is where to."""
    body: str = ""
    """At most 4000 bytes, as a word of nginx's configuration; `repeat` makes it longer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the answer begins, and before each repetition of the body."""
    repeat: int = 1
    """How often the body is sent. With another than 1, and with a delay, it is chunked."""


def start(
    host: Host,
    *,
    address: str = "0.0.0.0",
    port: int = 80,
    paths: Mapping[str, Answer],
    tls: tuple[Path, Path] | None = None,
) -> Server:
    """Start nginx; with `tls`, the files of a certificate and its key, it speaks HTTPS."""
    own = folder(host, f"nginx-{port}")
    (own / "conf").write_text(CONF)
    (own / "listen").write_text(_listen(endpoint(address, port), tls))
    _write(own, paths)
    argv = ("/usr/sbin/nginx", "-p", str(own), "-c", str(own / "conf"), "-e", "stderr")
    is_tls = tls is not None
    return Server(
        Recipe(host=host, folder=own, argv=argv, answers=lambda: host.inside(lambda: _answers(address, port, is_tls)))
    )


def change(server: Server, paths: Mapping[str, Answer]) -> None:
    """Answer otherwise from now on: in every request that begins after this returns, and without a gap."""
    _write(server.folder, paths)
    server.reload("gracefully shutting down")  # the old worker: it accepts nothing any more


def _listen(where: str, tls: tuple[Path, Path] | None) -> str:
    if tls is None:
        return f"listen {where};\n"
    certificate, key = tls
    return f"listen {where} ssl;\nssl_certificate {certificate};\nssl_certificate_key {key};\n"


def _write(own: Path, paths: Mapping[str, Answer]) -> None:
    (own / "paths").write_text("".join(_location(path, answer) for path, answer in paths.items()))


def _location(path: str, answer: Answer) -> str:
    headers = "".join(f"    add_header {name} {_word(value)} always;\n" for name, value in answer.headers.items())
    return f"location = {_word(path)} {{\n{headers}{_action(answer)}}}\n"


def _action(answer: Answer) -> str:
    body = _word(answer.body)
    if answer.delay:
        pieces = f"    echo_sleep {answer.delay};\n    echo -n {body};\n    echo_flush;\n" * answer.repeat
        return f"    echo_status {answer.status};\n{pieces}"
    if answer.repeat != 1:
        return f"    echo_status {answer.status};\n    echo_duplicate {answer.repeat} {body};\n"
    return f"    return {answer.status} {body};\n"


def _word(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("$", "${dollar}")
    return f'"{escaped}"'


def _answers(address: str, port: int, is_tls: bool) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=ASK_SECONDS)
    if is_tls:
        anybody = ssl._create_unverified_context()  # noqa: S323  # that it answers is all that is asked
        connection = http.client.HTTPSConnection(address, port, timeout=ASK_SECONDS, context=anybody)
    try:
        connection.request("GET", "/ready-for-lab")
        return connection.getresponse().status == 404
    finally:
        connection.close()
