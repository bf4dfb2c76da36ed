"""A checkpoint in a loop of your own: look, ask when a chunk is due, send what passes the safety gate once a period.

python examples/use_a_checkpoint.py runs/demo/checkpoint --steps 50
"""

import argparse
import time

from vla import load_policy
from vla.core.chunks import ChunkBuffer, Execution
from vla.deploy.robots.gate import Gate
from vla.deploy.robots.table import make_robot

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--image-size", type=int, default=64)
    arguments = parser.parse_args()

    robot = make_robot("simulated", {"env": "tabletop/place", "settings": {"image_size": arguments.image_size}})
    policy = load_policy(arguments.checkpoint, contract=robot.contract)  # refused here if it does not fit
    spec = policy.contract.policy
    buffer = ChunkBuffer(Execution.of(spec))
    gate = Gate(robot.contract, robot.motion, where=robot.observe().state)
    policy.reset(0)
    for _ in range(arguments.steps):
        seen = robot.observe()
        if buffer.wants_chunk:
            looked = time.monotonic()
            (chunk,) = policy.act([seen])
            buffer.add(chunk)
        robot.command(gate.check(buffer.pop(), state=seen.state, age_s=time.monotonic() - looked).command)
    print(f"{arguments.steps} steps, told {seen.instruction!r}; {robot.successes} of {robot.episodes} scenes solved")
    robot.close()
