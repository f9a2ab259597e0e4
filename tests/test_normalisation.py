"""Standardisation: exact in any unit, for inputs and targets alike; and what encoders that make spikes are shown."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurosbd.datasets.load import Dataset, load_data
from neurosbd.datasets.normalisation import limits, measure, standardise
from neurosbd.datasets.samples import Samples
from neurosbd.datasets.stream import as_intensities, resident, standardised
from neurosbd.encoders import Delta, Latency, Poisson, encode
from neurosbd.errors import UsageError, UsageWarning

CPU = torch.device("cpu")
UNITS = {
    "plain": (0.0, 1.0),
    "picoamperes": (0.0, 1e-12),
    "1e-200": (0.0, 1e-200),
    "1e200": (3e200, 1e200),
    "unix time": (1.7e9, 20.0),
    "unix time in ns": (1.7e18, 1e9),
    "julian date": (2460000.5, 0.05),
    "northing": (5.4e6, 0.3),
    "1 + 1e-9": (1.0, 1e-9),
}


def features(values: np.ndarray, test: np.ndarray | None = None) -> Dataset:
    train, held = (Samples(part, np.arange(len(part)) % 2) for part in (values, values if test is None else test))
    return Dataset("mine", train, held, ("0", "1"), values.shape[1:], 1.0, *measure(values, 1.0))


def shown(data: Dataset, split: str = "train") -> np.ndarray:
    samples = getattr(data, split)
    return resident(samples, data, CPU).batch(torch.arange(len(samples)))[0].numpy()


@pytest.mark.parametrize("unit", UNITS)
def test_units_do_not_matter(unit: str) -> None:
    """What a network is shown is the same in every unit, as far as float64 holds the column.

    Must fail for sums of squares, with an absolute limit for 'constant', or when the cast comes first (tried).
    """
    offset, scale = UNITS[unit]
    x = np.random.default_rng(0).standard_normal((2000, 2))
    data = features(offset + scale * x)
    resolution = 4 * max(abs(offset), scale) / scale * np.finfo(float).eps
    np.testing.assert_allclose(shown(data), (x - x.mean(0)) / x.std(0), atol=1e-6 + resolution)
    targets = Samples(x, offset + scale * x)
    mean, std = measure(targets.targets, 1.0)
    data = Dataset("mine", targets, targets, (), (2,), 1.0, (0.0,) * 2, (1.0,) * 2, 0, "reals", ("a", "b"), mean, std)
    y = resident(standardised(data).train, data, CPU).targets
    assert y.dtype == torch.float32
    np.testing.assert_allclose(y.numpy(), (x - x.mean(0)) / x.std(0), atol=1e-6 + resolution)


@pytest.mark.parametrize("levels", [np.uint8, np.uint16])
def test_moments_of_pictures_are_exact(levels: type) -> None:
    """Oracle: rational arithmetic. Must fail for sums in float32."""
    values = np.random.default_rng(0).integers(0, np.iinfo(levels).max + 1, (50, 5, 4, 2)).astype(levels)
    mean, std = measure(values, 255.0)
    for channel in range(2):
        grey = [Fraction(int(v)) for v in values[..., channel].ravel()]
        exact = sum(grey) / len(grey)
        variance = sum((v - exact) ** 2 for v in grey) / len(grey)
        assert mean[channel] == pytest.approx(float(exact / 255), rel=1e-15)
        assert std[channel] == pytest.approx(math.sqrt(variance) / 255, rel=1e-15)


def test_a_constant_column_is_zero_everywhere() -> None:
    """Judged by its own magnitude; also where the test split differs. Must fail when it keeps its scale in the test."""
    x = np.random.default_rng(0).standard_normal((100, 5))
    x[:, 1], x[:, 2], x[:, 3] = 7e9, 0.0, np.where(x[:, 0] > 0, 0.3, 0.1 + 0.2)  # the last differs by rounding alone
    test = x + np.array([0, 5e9, 1, 1, 0])
    data = features(x, test)
    assert [math.isinf(s) for s in data.std] == [False, True, True, True, False]
    for split in ("train", "test"):
        assert not shown(data, split)[:, 1:4].any() and shown(data, split)[:, [0, 4]].std(0).min() > 0.9
    pictures = np.full((10, 4, 4, 1), 200, np.uint8)
    still = Samples(pictures, np.arange(10) % 2)
    dark = Dataset("mine", still, still, ("0", "1"), (1, 4, 4), 255.0, *measure(pictures, 255.0))
    assert not shown(dark).any()


def test_a_rare_value_keeps_its_weight() -> None:
    """One training example of a thousand differs, by 1e-6: it is sqrt(1000) deviations away, as in any other unit."""
    x = np.zeros((1000, 1))
    x[3] = 1e-6
    assert shown(features(x))[3, 0] == pytest.approx(math.sqrt(999), rel=1e-6)


def test_parts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((1001, 3)) + 1e6
    pictures = np.random.default_rng(0).integers(0, 256, (101, 3, 3, 1), np.uint8)
    whole = measure(x, 1.0), measure(pictures, 255.0), limits(x), standardise(x, *measure(x, 1.0))
    monkeypatch.setattr("neurosbd.datasets.normalisation._PART", 100)
    parts = measure(x, 1.0), measure(pictures, 255.0), limits(x), standardise(x, *measure(x, 1.0))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    assert parts[1] == whole[1] and np.array_equal(parts[2], whole[2])
    np.testing.assert_allclose(parts[3], whole[3], atol=1e-6)


def own(path: Path, values: Any, kept: str, targets: Any) -> Path:
    np.savez(path, **{f"{s}_{k}": v for s in ("train", "test") for k, v in (("values", values), (kept, targets))})
    return path


def test_own_arrays_keep_what_float32_cannot_hold(tmp_path: Path) -> None:
    """Features and targets of an .npz, float64 and int64. Must fail when a reader casts to float32 (tried)."""
    x = np.random.default_rng(0).standard_normal((400, 2))
    path = own(tmp_path / "a.npz", 2460000.5 + 0.05 * x, "targets", 1e8 + x[:, :1])
    data = load_data(path)
    z, y = resident(standardised(data).train, data, CPU).batch(torch.arange(400))
    assert np.corrcoef(z[:, 0], x[:, 0])[0, 1] > 0.999999 and np.corrcoef(y[:, 0], x[:, 0])[0, 1] > 0.999999
    whole = own(tmp_path / "b.npz", (1_700_000_000 + np.round(20 * x)).astype(np.int64), "labels", np.arange(400) % 2)
    assert np.corrcoef(shown(load_data(whole))[:, 0], np.round(20 * x[:, 0]))[0, 1] > 0.999999
    small = own(tmp_path / "c.npz", x.astype(np.float32), "labels", np.arange(400) % 2)
    assert load_data(small).train.values.dtype == np.float32  # no more memory than it needs
    with pytest.raises(UsageError, match="'y0' is the same for all training examples"):
        load_data(own(tmp_path / "d.npz", x, "targets", np.where(x[:, 0] > 0, 1e8 + 0.3, 1e8 + 0.1 + 0.2)))


@pytest.mark.parametrize(("offset", "scale"), [(150.0, 10.0), (-60.0, 5.0), (0.0, 1e-12)])
def test_encoders_that_make_spikes_are_shown_0_to_1(offset: float, scale: float) -> None:
    """Heights, potentials, picoamperes: the training split fills 0..1, and the spikes tell the value.

    Must fail when the values are handed on as they are (tried: every unit spikes at once, or none ever).
    """
    x = np.random.default_rng(1).standard_normal((400, 4))
    with pytest.warns(UsageWarning, match="takes values from 0 to 1, but the columns go from"):
        data = as_intensities(features(offset + scale * x))
    z = torch.from_numpy(shown(data))
    assert z.min(0).values.tolist() == [0.0] * 4 and z.max(0).values.tolist() == [1.0] * 4
    for encoder in (Poisson(200.0), Latency(), Delta(0.05)):
        spikes = torch.stack(list(encode(encoder, z, 200, 1e-3, torch.Generator().manual_seed(0))))
        told = -spikes.argmax(0).float() if isinstance(encoder, Latency) else spikes.sum(0)
        spoke = z[:, 0] > 0.02  # of fainter ones latency says nothing
        assert torch.corrcoef(torch.stack((told[spoke, 0], z[spoke, 0])))[0, 1] > 0.75


def test_intensities_are_left_alone() -> None:
    """Columns in 0..1 and pictures; a test split beyond 0..1 is said; a constant column is dark."""
    x = np.random.default_rng(1).random((50, 2))
    np.testing.assert_array_equal(shown(as_intensities(features(x))), x.astype(np.float32))
    with pytest.warns(UsageWarning, match="which test examples exceed in 1 of 2 columns"):
        as_intensities(features(x, x + np.array([0.5, 0])))
    with pytest.warns(UsageWarning):
        data = as_intensities(features(np.column_stack((10 * x, np.full(50, 9.0)))))
    assert not shown(data)[:, 2].any()
    digits = load_data("digits")
    assert shown(as_intensities(digits)).min() == 0 and shown(as_intensities(digits)).max() == 1
