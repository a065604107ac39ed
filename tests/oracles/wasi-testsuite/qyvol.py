"""Adapter of the WebAssembly/wasi-testsuite's runner: each program is packed into a
signed image and run from it.

    QYV=target/debug/qyv SUITE/run-tests -r tests/oracles/wasi-testsuite/qyvol.py
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

QYV = os.path.abspath(os.getenv("QYV", "qyv"))
SCRATCH = Path(tempfile.mkdtemp(prefix="wasi-testsuite-"))
os.environ["QYVOL_HOME"] = str(SCRATCH / "home")


def get_name():
    return "qyvol"


def get_version():
    shown = subprocess.run([QYV, "--version"], encoding="UTF-8", capture_output=True, check=True)
    return shown.stdout.split()[1]


def get_wasi_versions():
    return ["wasm32-wasip1", "wasm32-wasip3"]


def get_wasi_worlds():
    return ["wasi:cli/command", "wasi:http/service"]


def compute_argv(test_path, args_env_root, proposals, wasi_world, wasi_version):
    args, env, root = args_env_root
    image = pack(test_path, any(name in str(test_path) for name in ["sockets", "http-client"]))
    argv = [QYV, "run", "--quiet"]
    if wasi_world == "wasi:http/service":
        # It says on stderr where it listens.
        argv = [QYV, "serve", "--listen", "127.0.0.1:0"]
    for name, value in env.items():
        argv += ["--env", f"{name}={value}"]
    if root:
        argv += ["--dir", f"{root}::/"]
    argv.append(str(image))
    return argv + ["--"] + args if argv[1] == "run" else argv


def pack(program, net):
    """The image of a program; one that can't be built is run as it is, which fails."""
    path = hashlib.sha256(str(program).encode()).hexdigest()[:8]
    name = f"{Path(program).stem.lower().replace('_', '-')}-{path}"
    directory, image = SCRATCH / name, SCRATCH / f"{name}.qyvbin"
    if not image.exists():
        directory.mkdir()
        (directory / "program.wasm").write_bytes(Path(program).read_bytes())
        permissions = "{ net: true }" if net else "{}"
        (directory / "app.qyv").write_text(
            f"name: {name}\nentrypoint: program.wasm\nargv0: {Path(program).name}\npermissions: {permissions}\n"
        )
        subprocess.run([QYV, "build", "--quiet", "-o", image, directory], capture_output=True, check=False)
    return image
