"""A calibration as a picture: precision, recall and share kept against the threshold, with their intervals."""

from pathlib import Path

from mmsynth.calibration.estimate import Calibration
from mmsynth.errors import PluginError

_COLOURS = {"precision": "#0b6e4f", "recall": "#3a5fcd"}


def write_chart(calibration: Calibration, score: str, path: Path, threshold: float | None = None) -> None:
    """Write a PNG. Raises PluginError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PluginError("the chart needs matplotlib: pip install 'mmsynth[plot]'") from error
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, colour in _COLOURS.items():
        curve, interval = getattr(calibration, name), getattr(calibration, f"{name}_interval")
        axes.plot(calibration.thresholds, curve, color=colour, label=name)
        axes.fill_between(calibration.thresholds, *interval, color=colour, alpha=0.18, linewidth=0)
    axes.plot(calibration.thresholds, calibration.kept, color="#777777", linestyle="--", label="share kept")
    if threshold is not None:
        axes.axvline(threshold, color="#b03030", linewidth=1, label=f"{score} ≥ {threshold:.3f}")
    axes.set(xlabel=f"threshold on {score}", ylim=(0, 1.02), title=f"noise: at most about {calibration.noise:.1%}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
