"""``vla codes``: a codec of a dataset's pictures, on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vla.cli.codes.group import VERBS
from vla.models.pictures.folder import read_image_codec

Call = Callable


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(verb: str, call: Call) -> None:
    answer = call("codes", verb, "--help")
    assert answer.code == 0
    assert f"vla codes {verb}" in answer.out


def test_a_codec_is_fitted_shown_and_measured(call: Call, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes"
    fitted = call("codes", "fit", dataset, out, "--codes", 24, "--pictures", 40, "--json", tmp_path / "fit.json")
    assert fitted.code == 0, fitted.err
    assert "object pixels" in fitted.out
    assert "mean picture" in fitted.out
    assert "16 tokens a picture" in fitted.out
    shown = call("codes", "show", out, "--json", tmp_path / "show.json")
    assert shown.code == 0, shown.err
    assert "pictures of 32 x 32 → 4 x 4 tokens of 24" in shown.out
    assert json.loads((tmp_path / "show.json").read_text()) == json.loads((tmp_path / "fit.json").read_text())
    sheet = tmp_path / "sheet.png"
    measured = call("codes", "show", out, "--data", dataset, "--pictures", 40, "--sheet", sheet)
    assert measured.code == 0, measured.err
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_a_learned_one_by_kind_and_quantiser(call: Call, dataset: Path, tmp_path: Path) -> None:
    small = ("--pictures", 20, "--steps", 2, "--channels", 8, "--latent", 8, "--quantiser.codes", 32, "--batch", 2)
    answer = call("codes", "fit", dataset, tmp_path / "codes", "--kind", "vq", "--quantiser.kind", "nearest", *small)
    assert answer.code == 0, answer.err
    config = read_image_codec(tmp_path / "codes")[0].config
    assert (config.kind, config.quantiser.kind, config.quantiser.codes) == ("vq", "nearest", 32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "patchs"), "did you mean 'patches'"),
        (("--preset", "robt"), "did you mean 'robot'"),
        (("--preset", "robot", "--kind", "patches"), "--preset robot is a learned codec, and --kind patches is none"),
        (("--preset", "seed"), "for pictures of 256 pixels a side, and these are 32 x 32"),
        (("--kind", "vq", "--quantiser.kind", "fsk"), "did you mean 'fsq'"),
        (("--side", "7"), "patches of 7 x 7 pixels do not fill pictures of 32 x 32"),
        (("--cameras", "top"), "unknown camera 'top'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], said: str, call: Call, dataset: Path, tmp_path: Path
) -> None:
    answer = call("codes", "fit", dataset, tmp_path / "codes", "--pictures", 10, *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "codes").exists()


def test_no_verb_shows_the_help_and_an_unknown_one_gets_a_suggestion(call: Call) -> None:
    assert call("codes").code == 2
    answer = call("codes", "fitt")
    assert (answer.code, "did you mean 'fit'" in answer.err) == (2, True)
