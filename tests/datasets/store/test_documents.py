"""A document is read as it was written or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import DatasetError
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.documents import FORMAT_VERSION, FormatVersionError, encode, read_document

VALUE = {"text": 'größer "🧱" \\ \n', "numbers": [0, -1, 2**63, 0.1], "nested": {"checksum": "0", "none": None}}

keys = st.text(max_size=5).filter(lambda key: key not in ("format_version", "checksum"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(folder: Path, data: bytes) -> dict[str, object]:
    (folder / "x.json").write_bytes(data)
    return read_document(LocalStorage(folder), "x.json", missing="Make one.", damaged="Mend it.")


def test_round_trip(tmp_path: Path) -> None:
    data = encode(VALUE)
    assert read(tmp_path, data) == VALUE
    assert read(tmp_path, encode({})) == {}
    assert data == encode(VALUE)  # equal values are equal files


@given(value=st.dictionaries(keys, values, max_size=4))
def test_any_json_round_trips(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]) -> None:
    assert read(tmp_path_factory.getbasetemp(), encode(value)) == value


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    data = encode(VALUE)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DatasetError, match=r"x\.json") as refused:
            read(tmp_path, bytes(damaged))
        assert not isinstance(refused.value, FormatVersionError)  # damage is not taken for a newer version


def test_every_truncation_and_addition_is_refused(tmp_path: Path) -> None:
    data = encode(VALUE)
    for size in range(len(data)):
        with pytest.raises(DatasetError, match=r"x\.json is damaged: .* Mend it\."):
            read(tmp_path, data[:size])
    for more in (b"\n", b" ", b"\0", b"}\n", data):
        with pytest.raises(DatasetError, match=r"x\.json is damaged: .* Mend it\."):
            read(tmp_path, data + more)


def test_swapped_values_are_refused(tmp_path: Path) -> None:
    data = encode({"a": 1, "b": 2})
    with pytest.raises(DatasetError, match="fails its checksum"):
        read(tmp_path, data.replace(b'"a": 1', b'"a": 2').replace(b'"b": 2', b'"b": 1'))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("3.0", r"x\.json: format version 3\.0, this software reads 2\.x; use a version of vla"),
        ("1.3", r"x\.json: format version 1\.3, this software reads 2\.x; convert it with vla data upgrade /"),
        ("1", "expected a format_version such as '2.0', got '1'"),
        (1.0, "expected a format_version"),
        (None, "expected a format_version"),
    ],
)
def test_versions(tmp_path: Path, version: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, encode({"format_version": version}))


def test_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    assert FORMAT_VERSION.startswith("2.")
    assert read(tmp_path, encode({"format_version": "2.70", "later": 0})) == {"later": 0}


def test_a_newer_major_version_need_not_have_our_checksum(tmp_path: Path) -> None:
    with pytest.raises(FormatVersionError, match=r"format version 3\.0"):
        read(tmp_path, b'{"format_version": "3.0", "sha256": "00"}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a format_version"),
        ('{"format_version": "1.0"', "is damaged"),
        ('{"format_version": "2.0"}', "does not end with a checksum"),
        ("[1]", "expected a JSON object, got list"),
        ("\xff", "is damaged"),
        ("", "is damaged"),
    ],
)
def test_what_is_no_document(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text.encode("latin-1"))


def test_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("nothing.json", "folder/nothing.json", "file/x.json"):
        with pytest.raises(DatasetError, match=rf"{name} does not exist\. Make one\."):
            read_document(LocalStorage(tmp_path), name, missing="Make one.", damaged="Mend it.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": [value]})
