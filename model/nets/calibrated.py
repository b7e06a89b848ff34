"""The last step of an exported candidate half: raw logit -> calibrated pCTR. K knots of the curve."""

import torch
from torch import Tensor, nn

from model.bundle.calibration import Calibration


class CalibratedSigmoid(nn.Module):
    """`Calibration.pctr` in tensors. Without a calibration it is the plain sigmoid, and so is its graph."""

    start: Tensor
    end: Tensor
    origin: Tensor
    slope: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        x, y = (torch.tensor(knots, dtype=torch.float64) for knots in (calibration.x, calibration.y))
        ends = torch.tensor([[-torch.inf], [torch.inf]], dtype=torch.float64)
        inner = torch.diff(y) / torch.diff(x)
        slope = torch.cat([torch.tensor([calibration.below]), inner, torch.tensor([calibration.above])])
        # One straight piece before, between and after the knots each: K + 1.
        pieces = {"start": torch.cat([ends[0], x]), "end": torch.cat([x, ends[1]]), "origin": torch.cat([x[:1], x])}
        for name, piece in {**pieces, "slope": slope}.items():
            self.register_buffer(name, piece.float())
        self.identity, self.shift, self.first = calibration.identity, calibration.shift, calibration.y[0]

    def forward(self, logit: Tensor) -> Tensor:
        """PCTR of a raw logit, any shape.

        The curve is a sum of pieces, each of which rises over its own stretch and is level elsewhere. Such a sum keeps
        the order of scores in float32 too, which interpolation by subtraction would not.
        """
        if self.identity:
            return torch.sigmoid(logit)
        pieces = torch.minimum(torch.maximum((logit + self.shift).unsqueeze(-1), self.start), self.end) - self.origin
        return torch.sigmoid((pieces * self.slope).sum(dim=-1) + self.first)
