"""Arrays that move from memory to the disk while they grow."""

import os

import numpy as np
import pytest

from skxmc._utils.spill import SpilledArray


@pytest.mark.parametrize(("max_in_memory", "is_mapped"), [(9, False), (8, True), (2, True)])
def test_spilled_array_holds_all_blocks_in_memory_or_in_a_file(tmp_path, max_in_memory, is_mapped):
    growing = SpilledArray(np.int32, max_in_memory, str(tmp_path))
    for start in (0, 3, 6):
        growing.append(np.arange(start, start + 3, dtype=np.int32))
    array = growing.array()
    assert type(array) is np.ndarray
    assert array.dtype == np.int32
    assert array.tolist() == list(range(9))
    assert isinstance(array.base, np.memmap) == is_mapped


def test_spilled_array_without_entries_is_empty():
    assert SpilledArray(np.int8, 4).array().shape == (0,)


@pytest.mark.skipif(os.name == "nt", reason="Windows shows the file until it is closed")
def test_spilled_array_leaves_no_file(tmp_path):
    growing = SpilledArray(np.int8, 0, str(tmp_path))
    growing.append(np.ones(5, np.int8))
    assert growing.array().sum() == 5
    assert list(tmp_path.iterdir()) == []


def test_spilled_array_without_room_says_what_to_do(tmp_path):
    growing = SpilledArray(np.int8, 0, str(tmp_path / "missing"))
    message = r"missing' could not be written .*Make room, or set .*TMPDIR"
    with pytest.raises(OSError, match=message):
        growing.append(np.ones(1, np.int8))
