"""A process that has imported everything and forks on demand: a real run in tenths of a second.

    Nursery.start(arguments, ranks=2, breaks=[("kill_at", "renamed", 3)])

forks processes that call the command line's `main`, after the named functions of `breakages` have
put a fault into them. It is a process of its own, so that what is forked has one thread and no test
machinery in it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Child:
    """One forked rank."""

    nursery: "Nursery"
    pid: int
    out: Path

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 120) -> int | None:
        """Its exit code, negative for a signal; None if it is still running."""
        code: int | None = self.nursery.ask({"wait": self.pid, "seconds": seconds})["code"]
        return code

    @property
    def text(self) -> str:
        return self.out.read_text()

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> bool:
        """Wait for a condition; False if the process ended before."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.wait(0) is not None:
                return False
            assert time.monotonic() < deadline, self.text
            time.sleep(0.002)
        return True


class Nursery:
    """The parent's side."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": path},
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def start(
        self, arguments: Sequence[str], ranks: int = 1, breaks: Sequence[Sequence[Any]] = ()
    ) -> list[Child]:
        """Fork the ranks of one run."""
        group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        group |= {"MASTER_PORT": str(free_port())} if ranks > 1 else {}
        children = []
        for rank in range(ranks):
            self.number += 1
            out = self.folder / f"{self.number}-{rank}.txt"
            request = {"arguments": list(arguments), "out": str(out), "breaks": list(breaks)}
            request["env"] = group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            children.append(Child(self, self.ask(request)["pid"], out))
        return children

    def run(
        self, arguments: Sequence[str], ranks: int = 1, breaks: Sequence[Sequence[Any]] = (),
        code: int | None = 0,
    ) -> list[str]:  # fmt: skip
        """Fork, wait, and return what each rank said; `code` None: any."""
        children = self.start(arguments, ranks, breaks)
        codes = [child.wait() for child in children]
        said = [child.text for child in children]
        assert code is None or codes == [code] * ranks, (codes, said)
        return said

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def serve() -> None:
    """The nursery's own side: read requests, fork, wait."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch

    import scalegan.train.loop  # noqa: F401

    torch.set_num_threads(1)
    running: set[int] = set()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid = request["wait"]
            code = codes.get(pid)
            if code is None and (code := await_exit(pid, request["seconds"])) is not None:
                running.discard(pid)
                codes[pid] = code
            answer: dict[str, Any] = {"code": code}
        else:
            pid = os.fork()
            if pid == 0:
                be_born(request)
            running.add(pid)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    for pid in running:  # what a failed test has left behind
        os.kill(pid, signal.SIGKILL)


def await_exit(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def be_born(request: dict[str, Any]) -> None:
    """In the child: become a run, then leave without the parent's clean-up."""
    code: Any = 1
    try:
        os.environ.update(request["env"])
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in enumerate((nothing, out, out)):
            os.dup2(target, number)
        sys.argv = ["scalegan", *request["arguments"]]
        from scalegan.cli import main
        from tests.support import breakages

        for name, *values in request["breaks"]:
            getattr(breakages, name)(*values)
        main(request["arguments"])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
