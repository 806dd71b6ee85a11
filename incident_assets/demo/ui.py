"""`incident-assets demo ui`: the Dagster UI on what the demo loaded.

The bundled API is behind it. Where it works is in `place`.
"""

import socket
import time
import urllib.request

from incident_assets.demo.load import INCIDENTS
from incident_assets.demo.place import (
    build_environment,
    prepare_folder,
    run_dagster,
    serve_account,
)


def open_ui() -> int:
    """Serve the UI until Ctrl-C and return the exit code."""
    folder = prepare_folder()
    port = _find_free_port()
    command = ["dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    try:
        with (
            serve_account(INCIDENTS) as api,
            (folder / "ui.log").open("wb") as output,
            run_dagster(
                command, folder, build_environment(folder, api), stdout=output, stderr=output
            ) as process,
        ):
            print("Starting the Dagster UI ...", flush=True)
            url = f"http://127.0.0.1:{port}"
            while process.poll() is None and not _answers(url):
                time.sleep(0.3)
            if process.poll() is None:
                print(f"The Dagster UI is at {url} (Ctrl-C stops it)", flush=True)
            code = process.wait()
    except KeyboardInterrupt:
        return 0
    print((folder / "ui.log").read_text(errors="replace")[-4000:])
    return code or 1


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
