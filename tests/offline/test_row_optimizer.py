"""The updates of single rows of a table, against values computed by hand."""

import math

import pytest
import torch

from model.row_optimizer import RowAdagrad, RowAdam, touched_rows


def test_row_adam_by_hand() -> None:
    """Two rows of one number. Step 1: m = 0.1 g, v = 0.001 g^2, both corrected to g and g^2, so the move is the rate.

    Row 1 gets the gradient 2 in step 1 only and stays at 1 - 0.1 in step 2. Row 2 gets 4 in step 2 only: m = 0.4,
    v = 0.016, corrected by 1 - 0.9^2 = 0.19 and 1 - 0.999^2 = 0.001999, so it moves by 0.1 * 0.4 / 0.19 / sqrt(8.004).
    """
    weight = torch.ones(3, 1)
    optimizer = RowAdam(weight, beta1=0.9)

    optimizer.step(torch.tensor([1]), torch.tensor([[2.0]]), rate=0.1)
    optimizer.step(torch.tensor([2]), torch.tensor([[4.0]]), rate=0.1)

    expected = [1.0, 1 - 0.1, 1 - 0.1 * (0.4 / 0.19) / math.sqrt(0.016 / 0.001999)]
    assert expected == pytest.approx(weight[:, 0].tolist(), abs=1e-6)


def test_without_momentum_there_is_no_memory_for_it() -> None:
    """With beta1 0 only the second moment is kept, and the move is the gradient over its root."""
    weight = torch.ones(2, 1)
    optimizer = RowAdam(weight, beta1=0.0)

    optimizer.step(torch.tensor([1]), torch.tensor([[-3.0]]), rate=0.1)

    assert set(optimizer.moments) == {"second"}
    assert [1.0, 1.1] == pytest.approx(weight[:, 0].tolist())


def test_adagrad_by_hand() -> None:
    """The sum of squares grows: gradients 3 and 4 move by 1 and 4/5 of the rate."""
    weight = torch.zeros(2, 1)
    optimizer = RowAdagrad(weight)

    for gradient in (3.0, 4.0):
        optimizer.step(torch.tensor([1]), torch.tensor([[gradient]]), rate=0.1)

    assert [0.0, -0.18] == pytest.approx(weight[:, 0].tolist())


def test_touched_rows_of_any_gradient() -> None:
    """Uncoalesced, coalesced and dense gradients name the same rows with the same sums."""
    ids, values = torch.tensor([[4, 1, 4]]), torch.tensor([[1.0], [2.0], [4.0]])
    sparse = torch.sparse_coo_tensor(ids, values, (6, 1), check_invariants=True)

    for gradient in (sparse, sparse.coalesce(), sparse.to_dense()):
        rows, sums = touched_rows(gradient)
        assert [1, 4] == rows.tolist()
        assert [[2.0], [5.0]] == sums.tolist()
