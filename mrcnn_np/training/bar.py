"""The progress bar of a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from ..objective import KEYPOINT_LOSS, LOSSES

#: parts of the loss, from what is left out last where a terminal is narrow
_PARTS = (KEYPOINT_LOSS, "head_mask", "head_class", "rpn_class", "head_box", "rpn_box")
#: columns that the bar itself keeps; times and counts that become longer until the next look take some of them
_LEAST = 8


class Bar:
    """The progress bar: steps, time left, images per second, the loss and its parts, positives.

    Where the terminal is too narrow for all of it, positives are left out, then images per second, then parts of the
    loss.

    Parameters
    ----------
    start, total : int
        Steps that are done, and all.
    enabled : bool
        False shows nothing.
    """

    def __init__(self, start: int, total: int, *, enabled: bool) -> None:
        # in a log file, where a bar is one long line, every 30 seconds will do
        interval = 0.2 if sys.stderr.isatty() else 30.0
        self._tqdm = tqdm(
            initial=start, total=total, disable=not enabled, mininterval=interval, unit="step", dynamic_ncols=True
        )
        self._rate: float | None = None

    def show(self, record: Mapping[str, float], *, images_per_second: float) -> None:
        """Move on by one step."""
        self._rate = images_per_second if self._rate is None else 0.9 * self._rate + 0.1 * images_per_second
        if not self._tqdm.disable:
            self._tqdm.set_postfix_str(self._fitting(_from_all_to_least(record, self._rate)), refresh=False)
        self._tqdm.update()

    def _fitting(self, texts: Sequence[str]) -> str:
        """Return the first text for which the terminal is wide enough, the last if it is for none."""
        state = self._tqdm.format_dict
        if state["ncols"] is None:  # a file
            return texts[0]
        around = len(tqdm.format_meter(**{**state, "ncols": 0, "postfix": "-"})) - 1 + _LEAST
        return next((text for text in texts if around + len(text) <= state["ncols"]), texts[-1])

    def say(self, step: int, measured: Mapping[str, float]) -> None:
        """Print what was measured on held-out images after a step."""
        if not self._tqdm.disable:
            numbers = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in measured.items())
            tqdm.write(f"step {step}, held out: {numbers}", file=sys.stderr)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._tqdm.close()


def _from_all_to_least(record: Mapping[str, float], rate: float) -> list[str]:
    """Return what can be said of a step, all of it first, then with ever less."""
    loss, parts = f"loss {record['loss']:.3f}", [name for name in _PARTS if name in record]
    texts = []
    for count in range(len(parts), -1, -1):
        kept = " ".join(f"{name} {record[name]:.3f}" for name in (*LOSSES, KEYPOINT_LOSS) if name in parts[:count])
        texts.append(f"{loss} {'=' if count == len(parts) else 'with'} {kept}" if kept else loss)
    speed = f"{rate:.1f} images/s, {texts[0]}"
    positives = f"positive {record['rpn_positives']:.0f} anchors {record['roi_positives']:.0f} RoIs"
    return [f"{speed}, {positives}", speed, *texts, ""]
