"""What stands in for a Ray cluster: actors are objects of this process, and do what they are asked to when asked."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ray.exceptions import ActorDiedError

NODE = {"NodeID": "node", "Alive": True, "Resources": {"CPU": 8.0}}


class Asked:
    """A call of an actor that has not been answered."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.do = do


class Actor:
    """An actor; what raises SystemExit ends it."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._of, name)
        ask = SimpleNamespace(remote=lambda *values: Asked(lambda: method(*values)))
        return SimpleNamespace(options=lambda **_: ask, remote=ask.remote)


class Cluster:
    """Has the place of the module `ray`; `killed` counts the actors that were killed."""

    def __init__(self, *, is_ready: bool = True) -> None:
        self._is_ready, self.killed = is_ready, 0

    def install(self, monkeypatch: Any) -> None:
        """Take the place of the functions of Ray."""
        context = SimpleNamespace(address_info={"session_dir": ""})
        stand_ins = {
            "init": lambda *_, **__: context,
            "shutdown": lambda: None,
            "nodes": lambda: [NODE],
            "get_runtime_context": lambda: SimpleNamespace(get_node_id=lambda: "node"),
            "put": lambda value: Asked(lambda: value),
            "remote": lambda **_: self._remote,
            "wait": self._wait,
            "get": self._get,
            "kill": self._kill,
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(f"ray.{name}", stand_in)

    def _remote(self, kind: Any) -> Any:
        made = SimpleNamespace(remote=lambda *values: Actor(kind(*values)))
        return SimpleNamespace(options=lambda **_: made)

    def _wait(self, asked: list[Asked], *, num_returns: int = 1, **_: float) -> tuple[list[Asked], list[Asked]]:
        if not self._is_ready:
            self._is_ready = True
            return [], asked
        return asked[:num_returns], asked[num_returns:]

    def _get(self, asked: Asked) -> Any:
        try:
            return asked.do()
        except SystemExit as error:
            raise ActorDiedError from error

    def _kill(self, _: Actor) -> None:
        self.killed += 1
