"""A process that has imported everything and forks on demand: a real run in tenths of a second.

    ForkServer().start(arguments, ranks=2, faults=[("kill_at", "renamed", 3)])

forks two ranks that call the command line's `main`, after the named functions of `injected_faults`
have put a fault into them. Each has a process of its own, with its own exit code, signals, folder
and environment; only the seconds that importing takes are shared. The server is no fork of the
tests: what it forks has one thread and no test machinery in it.
"""

import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    """A port of this machine that no one listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Child:
    """One forked process."""

    server: "ForkServer"
    pid: int
    out: Path
    err: Path

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> int | None:
        """Its exit code, negative for a signal; None if it is still running."""
        deadline = time.monotonic() + seconds
        while True:
            code: int | None = self.server.ask({"wait": self.pid})["code"]
            if code is not None or time.monotonic() >= deadline:
                return code
            time.sleep(0.01)

    @property
    def text(self) -> str:
        """What it has written to both streams, in order where they are one."""
        return self.out.read_text() + (self.err.read_text() if self.err != self.out else "")

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> bool:
        """Wait for a condition; False if the process ended before."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.wait(0) is not None:
                return False
            assert time.monotonic() < deadline, self.text
            time.sleep(0.002)
        return True


class ForkServer:
    """The tests' side of the server."""

    def __init__(self) -> None:
        self.number, self.asked = 0, 0
        self.folder = tempfile.TemporaryDirectory(prefix="scalegan-tests-")
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": path},
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.asked += 1
        self.process.stdin.write(json.dumps(request | {"asked": self.asked}) + "\n")
        self.process.stdin.flush()
        while True:  # pass over what a test that timed out did not wait for
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
            if answer["asked"] == self.asked:
                return answer

    def preload(self, *modules: str) -> None:
        """Import what only some tests need, once for all processes that are forked afterwards."""
        self.ask({"preload": modules})

    def start(
        self,
        arguments: Sequence[str],
        ranks: int = 1,
        faults: Sequence[Sequence[Any]] = (),
        program: str = "scalegan.cli",
        separate_errors: bool = False,
        with_curves: bool = False,
    ) -> list[Child]:
        """Fork the ranks of one run, in the folder and the environment that the test has now.

        Args:
            faults: names of functions of `injected_faults`, each with its arguments.
            program: the module whose `main(arguments)` is called.
            separate_errors: keep what goes to stderr apart from what goes to stdout.
            with_curves: draw `curves.png`, which takes longer than the steps of a tiny run.
        """
        group: dict[str, str] = {}
        if ranks > 1:
            group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
            group |= {"MASTER_PORT": str(free_port())}
        children = []
        for rank in range(ranks):
            self.number += 1
            out = Path(self.folder.name, f"{self.number}-{rank}.txt")
            err = out.with_suffix(".err") if separate_errors else out
            mine = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            request = {
                "program": program,
                "arguments": list(map(str, arguments)),
                "out": str(out),
                "err": str(err),
                "cwd": os.getcwd(),
                "env": os.environ | ONE_THREAD | group | mine,
                "faults": [*faults, *([] if with_curves else [["draw_no_curves"]])],
            }
            children.append(Child(self, self.ask(request)["pid"], out, err))
        return children

    def run(
        self,
        arguments: Sequence[str],
        ranks: int = 1,
        faults: Sequence[Sequence[Any]] = (),
        code: int | None = 0,
        program: str = "scalegan.cli",
        with_curves: bool = False,
    ) -> list[str]:
        """Fork, wait, and return what each rank wrote; `code` None: any exit code will do."""
        children = self.start(arguments, ranks, faults, program, with_curves=with_curves)
        codes = [child.wait(200) for child in children]
        texts = [child.text for child in children]
        assert code is None or codes == [code] * ranks, (codes, texts)
        return texts

    def close(self) -> None:
        """End the server, and with it what a failed test has left running."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.folder.cleanup()


@functools.cache
def fork_server() -> ForkServer:
    """The one server of this test process, started by the first test that needs it."""
    return ForkServer()


def close_fork_server() -> None:
    """End the server if there is one; tests/conftest.py calls this at the very end."""
    if fork_server.cache_info().currsize:
        fork_server().close()
        fork_server.cache_clear()


def serve() -> None:
    """The server's own side: read requests, fork, wait."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torch._dynamo  # which the first optimizer imports otherwise, in every child

    import scalegan.train.loop  # noqa: F401

    torch.set_num_threads(1)
    running: set[int] = set()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid = request["wait"]
            code = codes.get(pid)
            if code is None:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = codes[pid] = os.waitstatus_to_exitcode(status)
                    running.discard(pid)
            answer: dict[str, Any] = {"code": code}
        elif "preload" in request:
            for module in request["preload"]:
                importlib.import_module(module)
            answer = {}
        else:
            pid = os.fork()
            if pid == 0:
                become_a_run(request)
            running.add(pid)
            answer = {"pid": pid}
        print(json.dumps(answer | {"asked": request["asked"]}), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def become_a_run(request: dict[str, Any]) -> None:
    """In the child: call the program as a process of its own would, and end as it would."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    # Whoever runs the tests in the background has a shell that lets them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    created = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    out, err = (os.open(request[stream], created, 0o600) for stream in ("out", "err"))
    for number, target in enumerate((nothing, out, err)):
        os.dup2(target, number)
    sys.argv = ["scalegan", *request["arguments"]]
    code: Any = 1
    try:
        from tests.support import injected_faults

        for name, *values in request["faults"]:
            getattr(injected_faults, name)(*values)
        importlib.import_module(request["program"]).main(request["arguments"])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    leave(code if isinstance(code, int) else 1)


def leave(code: int) -> None:
    """End like any process, with what is registered for its exit, but not with the server's own."""
    import atexit

    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
