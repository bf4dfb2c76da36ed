"""The page shows what happens and steers the robot, in a real browser, and nobody else gets in."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.browser import CHROMIUM, browse
from tests.deploy.control.arms import Arm, Right
from vla.core.contract import Contract
from vla.core.types import ActionChunk, Observation
from vla.deploy.control.drive import Step
from vla.deploy.control.loop import ControlLoop
from vla.deploy.control.operator import Operator, Order
from vla.deploy.page.board import Board
from vla.deploy.page.server import OperatorPage
from vla.deploy.robots.motion import Motion
from vla.deploy.robots.simulated import SimulatedRobot
from vla.policies.random import RandomPolicy


@contextmanager
def _page(board: Board, operator: Operator) -> Iterator[str]:
    with OperatorPage(board, operator).running() as address:
        yield address


@pytest.fixture
def arm() -> Arm:
    return Arm(Motion(speed=0.1, acceleration=1.0))


def _heard(operator: Operator, count: int) -> list[Order | str]:
    found: list[Order | str] = []
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        found += operator.heard()
        time.sleep(0.01)
    return found


def test_without_its_secret_there_is_nothing(arm: Arm) -> None:
    with _page(Board(arm.contract, "none"), Operator()) as address:
        root = "/".join(address.split("/")[:3])
        for path in ("/", "/live", "/" + "x" * 22 + "/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(root + path)
            assert _upgraded(address, path, root) == 404
        answer = urllib.request.urlopen(address)
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    with _page(Board(arm.contract, "none"), Operator()) as another:
        assert another.split("/")[3] != address.split("/")[3]


def _upgraded(address: str, path: str, origin: str | None) -> int:
    """The status that a browser is answered which asks for a websocket from a page of ``origin``."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=10)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    connection.request("GET", path, headers=headers | ({} if origin is None else {"Origin": origin}))
    status = connection.getresponse().status
    connection.close()
    return status


def test_another_page_of_the_browser_is_not_let_in(arm: Arm) -> None:
    with _page(Board(arm.contract, "none"), Operator()) as address:
        live = "/" + address.split("/")[3] + "/live"
        for origin in ("https://elsewhere.example", "http://127.0.0.1.elsewhere.example", None):
            assert _upgraded(address, live, origin) == 403
        assert _upgraded(address, live, address.rpartition("/")[0].rpartition("/")[0]) == 101


def test_orders_are_handed_on_and_anything_else_is_none(arm: Arm) -> None:
    operator = Operator()
    with _page(Board(arm.contract, "none"), operator) as address:
        with connect(address.replace("http", "ws") + "live", origin="http://localhost:1") as socket:  # type: ignore[arg-type]
            for nonsense in ("", "[]", "7", "{}", '{"order": "dance"}', '{"say": "  "}', b"\xff", "{" * 1000):
                socket.send(nonsense)
            socket.send(json.dumps({"say": "wave\n" + "x" * 2000}))
            socket.send(json.dumps({"order": "stop"}))
            found = _heard(operator, 2)
        assert Order.STOP in found
        assert operator.stopping.is_set()
        assert all(isinstance(said, str) and len(said) <= 1000 for said in found if not isinstance(said, Order))


def test_interventions_are_told_once_each(arm: Arm) -> None:
    board = Board(arm.contract, "none")
    loop = ControlLoop(Right(arm), arm, on_step=board)
    loop.run(30)
    loop.close()
    assert 1 <= len(board.events) < 10
    number, first = board.events[0]
    assert number == 1
    assert "speed" in first["what"] or "acceleration" in first["what"]
    assert "pan" in first["where"]
    now = board.now()
    assert now is not None
    assert now["mode"] == "policy"
    json.dumps([now, board.about()])


class Hanging(RandomPolicy):
    """Until it is told not to answer any more."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, 4, 0)
        self.hang, self.said = threading.Event(), set[str]()

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        self.said |= {seen.instruction for seen in observations if seen is not None}
        while self.hang.is_set():
            time.sleep(0.1)
        return super().act(observations)


class Patient(SimulatedRobot):
    """Holds still for as long as a slow browser takes."""

    @property
    def motion(self) -> Motion:
        return replace(super().motion, hold_s=300.0)


class Driving:
    """A loop on a thread of its own, to which the robot's cameras belong."""

    def __init__(self) -> None:
        self.operator, self.steps = Operator(), list[Step]()
        self.begun: Future[tuple[ControlLoop, Hanging, Board]] = Future()
        self.thread = threading.Thread(target=self._drive)

    def _drive(self) -> None:
        robot = Patient("tabletop/place", settings={"image_size": 64, "max_steps": 10_000})
        policy, board = Hanging(robot.contract), Board(robot.contract, "a policy that hangs")

        def on_step(step: Step) -> None:
            self.steps.append(step)
            board(step)

        loop = ControlLoop(policy, robot, operator=self.operator, on_step=on_step)
        self.begun.set_result((loop, policy, board))
        loop.run(5000)
        loop.close()
        robot.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_in_a_browser_a_person_sees_says_and_stops_also_when_the_policy_hangs(tmp_path: Path) -> None:
    driving = Driving()
    driving.thread.start()
    loop, policy, board = driving.begun.result(60)
    steps = driving.steps
    with _page(board, driving.operator) as address:
        try:
            with browse(address, tmp_path) as page:
                page.until("document.querySelectorAll('#cameras img').length === 2")
                page.until("[...document.querySelectorAll('#cameras img')].every(i => i.naturalWidth === 64)")
                page.until("document.getElementById('mode').textContent === 'policy'")
                assert page.value("document.querySelectorAll('.joint').length") == 8
                page.click("#instruction")
                page.value("document.getElementById('instruction').value = ''; 0")
                page.type("wave at me")
                page.press("Enter", 13, "\r")
                page.until("Number(document.getElementById('step').textContent) > 0")
                _until(lambda: "wave at me" in policy.said)
                policy.hang.set()
                page.until("document.getElementById('mode').textContent === 'hold'")
                page.click("#stop")
                page.until("document.getElementById('mode').textContent === 'stop'")
                at = len(steps)
                _until(lambda: len(steps) > at + 5)
                held = np.stack([step.verdict.command for step in steps[-3:]])
                assert (held == held[0]).all()
                assert loop.gate.stopped
                policy.hang.clear()
                page.click("[data-order=go]")
                page.until("document.getElementById('mode').textContent === 'policy'")
                page.press("Escape", 27)
                page.until("document.getElementById('mode').textContent === 'stop'")
                assert len(page.screenshot()) > 10_000
        finally:
            policy.hang.clear()
            driving.operator.give(Order.QUIT)
            driving.thread.join(20)
    assert not driving.thread.is_alive()


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
