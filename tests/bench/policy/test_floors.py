"""Work is counted where it is done: products, and weights as often as they are read."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vla.bench.policy.floors import Machine, Work, count_work, measure_machine
from vla.bench.policy.timing import take_turns


def test_products_and_the_weights_in_them() -> None:
    layer, x = nn.Linear(6, 4, bias=False), torch.rand(3, 6)
    once = count_work(lambda: layer(x), [layer])
    assert once == Work(flops=2 * 3 * 6 * 4, weight_bytes=4 * 6 * 4)
    twice = count_work(lambda: layer(layer(x)[:, :1].expand(-1, 6)), [layer])
    assert twice == Work(flops=2 * once.flops, weight_bytes=2 * once.weight_bytes)
    assert count_work(lambda: layer(x), []) == Work(flops=once.flops, weight_bytes=0)


def test_inference_mode_counts_the_same() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3))
    act = partial(model, torch.rand(3, 6))
    expected = Work(flops=2 * 3 * (6 * 4 + 2 * 2 * 3), weight_bytes=4 * (6 * 4 + 4 + 2 * 3 + 2))  # biases are read too
    assert count_work(act, [model]) == count_work(torch.inference_mode()(act), [model]) == expected


def test_of_a_table_the_rows_that_are_read_count() -> None:
    table = nn.Embedding(10, 6)
    work = count_work(lambda: F.linear(torch.rand(1, 6), table.weight[2:5]), [table])
    assert work == Work(flops=2 * 6 * 3, weight_bytes=4 * 6 * 3)
    assert count_work(lambda: table(torch.tensor([1])), [table]) == Work(flops=0, weight_bytes=0)


def test_a_machine_of_so_much_takes_so_long() -> None:
    machine = Machine(bytes_per_s=1e9, flops_per_s=1e10)
    work = Work(flops=2 * 10**7, weight_bytes=10**6)
    assert machine.bandwidth_ms(work) == 1.0
    assert machine.products_ms(work) == 2.0


def test_the_machine_is_measured() -> None:
    found = measure_machine(10_000, 64, torch.device("cpu"))
    assert 1e7 < found.bytes_per_s < 1e13
    assert 1e7 < found.flops_per_s < 1e14


def test_calls_take_turns_and_the_first_of_each_turn_is_not_measured() -> None:
    said: list[str] = []
    calls = {"a": lambda: said.append("a"), "b": lambda: said.append("b")}
    times = take_turns(calls, 1e-9, torch.device("cpu"))
    assert said == ["a", "a", "b", "b"] * 5
    assert {name: found.calls for name, found in times.items()} == {"a": 5, "b": 5}
    assert all(0 < found.p50 <= found.p99 and found.spread >= 0 for found in times.values())
