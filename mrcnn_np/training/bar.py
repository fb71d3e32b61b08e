"""The progress bar of a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tqdm import tqdm

from ..objective import KEYPOINT_LOSS, LOSSES


class Bar:
    """The progress bar: steps, time left, images per second, the loss and its parts, positives."""

    def __init__(self, start: int, total: int, *, enabled: bool) -> None:
        # in a log file, where a bar is one long line, every 30 seconds will do
        interval = 0.2 if sys.stderr.isatty() else 30.0
        self._tqdm = tqdm(initial=start, total=total, disable=not enabled, mininterval=interval, unit="step")
        self._rate: float | None = None

    def show(self, record: Mapping[str, float], *, images_per_second: float) -> None:
        """Move on by one step."""
        self._rate = images_per_second if self._rate is None else 0.9 * self._rate + 0.1 * images_per_second
        parts = " ".join(f"{name} {record[name]:.3f}" for name in (*LOSSES, KEYPOINT_LOSS) if name in record)
        positives = f"positive {record['rpn_positives']:.0f} anchors {record['roi_positives']:.0f} RoIs"
        shown = f"{self._rate:.1f} images/s, loss {record['loss']:.3f} = {parts}, {positives}"
        self._tqdm.set_postfix_str(shown, refresh=False)
        self._tqdm.update()

    def say(self, step: int, measured: Mapping[str, float]) -> None:
        """Print what was measured on held-out images after a step."""
        if not self._tqdm.disable:
            numbers = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in measured.items())
            tqdm.write(f"step {step}, held out: {numbers}", file=sys.stderr)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._tqdm.close()
