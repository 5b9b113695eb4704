"""Assignments, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pyrozoo.math.alignment import least_assignment, match_components


@pytest.mark.parametrize("K", [1, 2, 3, 7, 20])
def test_the_least_assignment_is_scipys(K):
    generator = np.random.default_rng(K)
    for cost in (generator.normal(size=(30, K, K)), generator.integers(0, 4, (30, K, K)).astype(float)):
        found = least_assignment(torch.from_numpy(cost)).numpy()
        assert (np.sort(found, 1) == np.arange(K)).all()
        least = [each[linear_sum_assignment(each)].sum() for each in cost]
        np.testing.assert_allclose(np.take_along_axis(cost, found[..., None], 2).sum((1, 2)), least, rtol=1e-12)


def test_components_are_matched_where_two_have_the_same_one_nearest():
    generator = torch.Generator().manual_seed(0)
    features, pivot = torch.randn(40, 6, 2, generator=generator), torch.randn(6, 2, generator=generator)
    features[:10] = pivot[[3, 1, 0, 2, 5, 4]] + 1e-3 * features[:10]
    cost = torch.cdist(pivot.expand(40, -1, -1), features).square().numpy()
    expected = np.stack([linear_sum_assignment(each)[1] for each in cost])
    np.testing.assert_array_equal(match_components(features, pivot).numpy(), expected)
    assert (expected[:10] == [2, 1, 3, 0, 5, 4]).all()
