"""A newer version of a policy takes the place of the one that is served, and no client notices but by its number."""

import asyncio
import logging
import threading
from collections.abc import Callable

from vla.core.contract import differences
from vla.core.errors import ServeError, VlaError
from vla.deploy.engines.engine import Engine, ask
from vla.deploy.limits import Limits
from vla.deploy.requests import neutral_observation
from vla.deploy.serving.served import Served

Renew = Callable[[str, Engine], Engine | None]
"""Builds what is there now under a name, unless that is the engine; may take long, and raise `VlaError`."""

_log = logging.getLogger(__name__)


async def renew(served: Served, build: Renew, limits: Limits) -> None:
    """Load, check and warm up beside the one that answers, then let it answer; whatever fails leaves that one alone."""
    try:
        engine = await _built(build, served.name, served.batcher.engine)
        if engine is None:
            _log.info("%s: nothing newer is there", served.name)
            return
        try:
            horizon = await _ready(engine, served, limits)
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        await served.exchange(engine, horizon)
    except VlaError as error:
        _log.error("%s: not exchanged: %s; the old one goes on", served.name, error)
    else:
        _log.warning("%s: version %d answers (%s)", served.name, served.batcher.version, engine.digest)


async def _built(build: Renew, name: str, now: Engine) -> Engine | None:
    """On a thread that nobody waits for when the server stops: it takes as long as a policy takes to load."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Engine | None] = loop.create_future()

    def settle(engine: Engine | None, error: BaseException | None) -> None:
        if done.done():
            _close(engine)
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(engine)

    def run() -> None:
        engine, error = None, None
        try:
            engine = build(name, now)
        except Exception as fault:
            error = fault if isinstance(fault, VlaError) else ServeError(f"it does not load ({type(fault).__name__})")
        try:
            loop.call_soon_threadsafe(settle, engine, error)
        except RuntimeError:  # the server has stopped
            _close(engine)

    threading.Thread(target=run, name="vla-renewal", daemon=True).start()
    return await done


def _close(engine: Engine | None) -> None:
    if engine is not None:
        engine.close()


async def _ready(engine: Engine, served: Served, limits: Limits) -> int:
    """Whether it can take the place, and has answered once: the steps of its chunks."""
    if lines := differences(served.contract, engine.contract, scope="execution"):
        raise ServeError(f"clients rely on what has changed ({'; '.join(lines)}); serve it under another name")
    observations = [neutral_observation(engine.contract), *[None] * (limits.clients - 1)]
    try:
        async with asyncio.timeout(limits.start_s):
            chunks = await ask(engine, observations, (0,))
    except TimeoutError:
        raise ServeError(f"it did not answer within {limits.start_s:g} s") from None
    if not chunks or chunks[0] is None:
        raise ServeError("it answers no chunk")
    return len(chunks[0].actions)
