"""calibration: a threshold with a known error, from the user's own data.

negatives.py   scores of the same images with other samples' captions, and with almost-true ones if there are any
estimate.py    from scores to precision and recall at every threshold, with intervals
chart.py       the result as a picture
"""

from mmsynth.calibration.estimate import Calibration, calibrated
from mmsynth.calibration.negatives import Scored, score_run

__all__ = ["Calibration", "Scored", "calibrated", "score_run"]
