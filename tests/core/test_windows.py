"""WindowBuffer: the samples of a due window, and when it is due."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.windows import WindowBuffer


def run(buffer, row, samples, sizes):
    """Write in pieces of the given sizes, and return the windows that fall due."""
    out, at = [], 0
    for size in sizes:
        left = min(size, len(samples) - at)
        while left:
            step = min(left, int(buffer.due_in[row]))
            buffer.write(np.array([row]), np.array([step]), np.array([at]), samples)
            at, left = at + step, left - step
            if buffer.due_in[row] == 0:
                out.append(buffer.gather(np.array([row]))[0])
    return out


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (10, 1), (9, 5)])
@given(sizes=st.lists(st.integers(1, 40), min_size=4, max_size=40))
@settings(max_examples=20, deadline=None)
def test_windows_are_slices_of_the_stream_one_stride_apart(window, stride, sizes):
    samples = np.arange(sum(sizes) * 2, dtype=np.float32).reshape(-1, 2)
    buffer = WindowBuffer(window, stride, 2, 3)
    buffer.reset(np.array([2]))
    got = run(buffer, 2, samples, sizes)
    want = [samples[start : start + window] for start in range(0, len(samples) - window + 1, stride)]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_reset_forgets_the_samples_before():
    samples = np.arange(40, dtype=np.float32).reshape(-1, 1)
    buffer = WindowBuffer(8, 4, 1, 1)
    buffer.reset(np.array([0]))
    run(buffer, 0, samples[:11], [11])
    buffer.reset(np.array([0]))
    # 0 ....... 7 (due) .. 10 | 20 ....... 27 (due)    not 8 9 10 20 ...
    (window,) = run(buffer, 0, samples[20:], [11])
    np.testing.assert_array_equal(window[:, 0], np.arange(20, 28))


def test_a_gathered_window_is_a_copy():
    buffer = WindowBuffer(8, 8, 1, 1)
    buffer.reset(np.array([0]))
    (window,) = run(buffer, 0, np.ones((8, 1), np.float32), [8])
    run(buffer, 0, np.zeros((8, 1), np.float32), [8])
    assert (window == 1).all()


def test_rows_of_different_fill_are_written_in_one_go():
    # row 0: 0 1 2 3     row 2: 10 11 12 13 14 15 16 17 (due)
    samples = np.array([0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17], np.float32)[:, None]
    buffer = WindowBuffer(8, 8, 1, 3)
    buffer.reset(np.arange(3))
    buffer.write(np.array([0, 2]), np.array([4, 8]), np.array([0, 4]), samples)
    assert buffer.due_in.tolist() == [4, 8, 0]
    np.testing.assert_array_equal(buffer.gather(np.array([2]))[0, :, 0], np.arange(10, 18))
