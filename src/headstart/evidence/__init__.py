"""What is proved: baselines, intervals, calibration, the verdict."""
