"""A start that fails for gRPC prints one line that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from loadtest.processes import free_port
from serving.bento import grpc_start
from serving.settings import Settings
from tests.serving.bento.test_start import serve
from tests.support.processes import run_python


def test_a_port_for_grpc_that_is_taken_even_where_its_server_would_share_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        if hasattr(socket, "SO_REUSEPORT"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert serve(tmp_path, {"TIFFIN_GRPC_PORT": str(port)}) == (
            f"port {port} is taken: choose another one by TIFFIN_GRPC_PORT, or turn gRPC off by TIFFIN_GRPC_PORT=0\n"
        )


def test_a_port_for_grpc_that_is_that_of_http(tmp_path: Path) -> None:
    port = free_port()
    assert serve(tmp_path, {"TIFFIN_GRPC_PORT": str(port)}, port=port) == (
        f"port {port} is that of HTTP: choose another one for gRPC by TIFFIN_GRPC_PORT, "
        "or turn gRPC off by TIFFIN_GRPC_PORT=0\n"
    )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"CERTIFICATE": "own"}, "gRPC over TLS needs both TIFFIN_GRPC_TLS_CERTIFICATE and TIFFIN_GRPC_TLS_KEY"),
        ({"CLIENT_CA": "own"}, "gRPC over TLS needs both TIFFIN_GRPC_TLS_CERTIFICATE and TIFFIN_GRPC_TLS_KEY"),
        (
            {"CERTIFICATE": "own", "KEY": "absent"},
            "TIFFIN_GRPC_TLS_KEY=absent: cannot be read: No such file or directory",
        ),
        (
            {"CERTIFICATE": "own", "KEY": "text"},
            "TIFFIN_GRPC_TLS_CERTIFICATE=own: is no certificate in PEM that belongs to the key in text",
        ),
        (
            {"CERTIFICATE": "own", "KEY": "own", "CLIENT_CA": "text"},
            "TIFFIN_GRPC_TLS_CLIENT_CA=text: holds no certificate in PEM",
        ),
    ],
)
def test_files_of_tls_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificate: Path, files: dict[str, str], said: str
) -> None:
    (tmp_path / "own").write_bytes(certificate.read_bytes())
    (tmp_path / "text").write_text("text")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grpc_start, "bentoml_command", lambda: ("serve", {"host": "127.0.0.1", "port": None}))
    monkeypatch.setenv(grpc_start.ADDRESS, "")  # set by what is tested, to be removed
    monkeypatch.setenv("TIFFIN_GRPC_PORT", str(free_port()))
    for name, file in files.items():
        monkeypatch.setenv(f"TIFFIN_GRPC_TLS_{name}", file)
    with pytest.raises(SystemExit) as ended:
        grpc_start.prepare(Settings())
    assert ended.value.code == said


def test_without_a_port_grpc_is_not_imported(store: Path) -> None:
    code = "import service, sys; assert not service.settings.grpc_port and 'grpc' not in sys.modules"
    done = run_python(store, "-c", code, env={"TIFFIN_GRPC_PORT": ""})
    assert done.returncode == 0, done.stderr
