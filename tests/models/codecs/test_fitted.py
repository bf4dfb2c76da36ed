"""What cannot be fitted to is refused, with what was found."""

import pytest
import torch

from tests.models.codecs.chunks import smooth
from vla.core.errors import ContractError
from vla.models.codecs.config import CODECS


@pytest.mark.parametrize("name", CODECS)
def test_nothing_to_fit_to_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match=r"at least one, got \(0, 8, 3\)"):
        CODECS[name](kind=name).fit(smooth(0))


@pytest.mark.parametrize("name", CODECS)
def test_what_is_not_finite_is_refused(name: str) -> None:
    chunks = smooth(5)
    chunks[2, 3, 1] = torch.nan
    with pytest.raises(ContractError, match="1 of 120 numbers to fit to are not finite"):
        CODECS[name](kind=name).fit(chunks)


@pytest.mark.parametrize("name", CODECS)
def test_every_key_must_be_there(name: str) -> None:
    config = CODECS[name](kind=name)
    fitted = config.fit(smooth(20))
    for key in fitted:
        with pytest.raises(ContractError, match=f"lacks '{key}' of what was fitted to the data; it is damaged"):
            config.build({k: v for k, v in fitted.items() if k != key})
