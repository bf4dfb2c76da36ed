"""The types that annotations name, and the sizes in them, are checked in every call and every dataclass of ours."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from tests.typechecks import checked, speaks_of_shapes
from vla.core.contract import Camera
from vla.core.files import make_folder
from vla.models.trunk.soft_bins import soft_cross_entropy


@pytest.mark.parametrize(
    "annotation",
    [
        Float[Tensor, "b d"],
        Float[np.ndarray, "t"] | None,
        Mapping[str, tuple[Float[Tensor, "b"], ...]],
        Callable[[Float[Tensor, "b"]], int],
        Annotated[list[Float[Tensor, "b"]], "said beside it"],
        "Float[Tensor, 'b']",
        list["Tensor"],
    ],
)
def test_what_has_shapes_or_may_have_them_is_found(annotation: Any) -> None:
    assert speaks_of_shapes(annotation)


@pytest.mark.parametrize(
    "annotation", [int, None, Tensor, dict[str, int | None], Callable[..., Tensor], Any, Literal["a"]]
)
def test_what_has_none_is_left_to_beartype(annotation: Any) -> None:
    assert not speaks_of_shapes(annotation)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((2, 3), (2, 4)), "parameters"), (((2, 3), (4, 3)), "parameters"), (((2, 3), (2, 3)), None)],
)
def test_a_letter_means_one_size_in_a_call(shapes: Any, message: str | None) -> None:
    logits, targets = (torch.full(shape, 1 / shape[-1]) for shape in shapes)
    if message is None:
        soft_cross_entropy(logits, targets)
        return
    with pytest.raises(TypeCheckError, match=message):
        soft_cross_entropy(logits, targets)


def test_types_without_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="make_folder"):
        make_folder("no path")
    with pytest.raises(TypeCheckError, match="name"):
        Camera(name=3, height=8, width=8)
    wrong = checked(typechecker=beartype)(_wrong_return)
    with pytest.raises(TypeCheckError):
        wrong()


def _wrong_return() -> int:
    return "one"
