"""The daemon's process: `python -P -m localmem_node.daemon [--detach] [--ready-fd N]`.

Detached it is nobody's child (a client that lives on has no zombie to bury) and of no terminal.
Whether it started is written to the ready descriptor as one line of JSON: `{"ready": true}`, or the
error that stopped it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys


def main() -> int:
    """Run the daemon; 0 after an orderly end, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m localmem_node.daemon")
    parser.add_argument("--detach", action="store_true", help="leave the caller's session")
    parser.add_argument("--ready-fd", type=int, default=None, help="where to report readiness")
    options = parser.parse_args()
    if options.detach:
        # Before anything is imported that could have threads.
        if os.fork():
            os._exit(0)
        os.setsid()
    from localmem_node.heap import settle_heap

    settle_heap()
    sys.path[:] = [os.path.abspath(entry) for entry in sys.path]
    return _run(options.ready_fd)


def _run(ready_fd: int | None) -> int:
    import logging

    from localmem_node.config import load_settings
    from localmem_node.daemon.extensions import load_extensions
    from localmem_node.daemon.server import run_daemon
    from localmem_node.errors import NodeError
    from localmem_node.problems import problem

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        settings = load_settings(os.environ)
        for name in [name for name in os.environ if name.startswith("LOCALMEM_")]:
            del os.environ[name]  # settings hold what is needed; nothing else should see secrets
        os.chdir("/")
        run_daemon(
            settings,
            ready=lambda: _ready(ready_fd),
            extensions=load_extensions(),
            environment_runtime=os.environ.get("XDG_RUNTIME_DIR"),
        )
    except Exception as error:
        if isinstance(error, NodeError):
            logging.error("%s", error)
        else:
            logging.exception("the daemon failed")
        _report(ready_fd, problem(error)[1])
        return 1
    return 0


def _ready(ready_fd: int | None) -> None:
    _report(ready_fd, {"ready": True})
    if ready_fd is not None:
        os.close(ready_fd)


def _report(ready_fd: int | None, message: object) -> None:
    if ready_fd is None:
        return
    import msgspec

    # The client may have given up, or this may be an error after readiness was reported.
    with contextlib.suppress(OSError):
        os.write(ready_fd, msgspec.json.encode(message) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
