"""Forgetting factors of a running correlation, constant or scheduled over the training."""

from typing import Literal, get_args

from torch import Tensor

from neurosbd.schema.constants import Fraction, constants

Shape = Literal["linear", "geometric"]
SHAPES: tuple[str, ...] = get_args(Shape)


@constants
class Forgetting:
    """lam(progress): how much of the old correlation survives one batch, 0 <= lam <= 1.

        without end:  lam = start
        linear:       lam = start + progress (end - start)
        geometric:    1 - lam = (1 - start)^(1 - progress) (1 - end)^progress

    Args:
        start: factor at the beginning of the training, 0..1. 1 freezes the projection.
        end: factor at its end, 0..1; None: it stays as it is.
        shape: of the curve from start to end.
    Raises:
        ValueError: if a factor is outside 0..1, a geometric curve starts or ends at exactly 1, or the shape is unknown.
    Source: Erdogan et al. 2025 (EBD), appendix: 0.99999 rising to 1 with the epochs (CNN), 0.999999 (MLP).
    """

    start: Fraction = 0.9
    end: Fraction | None = None
    shape: Shape = "geometric"

    def __post_init__(self) -> None:
        if self.end is not None and self.shape == "geometric" and 1 in (self.start, self.end):
            raise ValueError(
                f"Forgetting goes geometrically from {self.start} to {self.end}, but such a curve never is exactly 1; "
                f"give an end such as 0.9999, or the shape 'linear'"
            )

    def factor_of(self, share: float, progress: float | Tensor) -> float | Tensor:
        """lam^share: what survives a share (0..1) of a batch, such as one of its steps."""
        whole = self.factor(progress)
        return whole if share == 1 else whole**share

    @property
    def never(self) -> bool:
        """Whether all survives for ever."""
        return self.start == 1 and self.end is None

    def factor(self, progress: float | Tensor) -> float | Tensor:
        """lam when `progress` (0..1) of the training is done; as a number where it stays."""
        if self.end is None:
            return self.start
        if self.shape == "linear":
            return self.start + progress * (self.end - self.start)
        return 1 - (1 - self.start) ** (1 - progress) * (1 - self.end) ** progress
