"""How are results shown to users? Tables, figures and pages, made from plain data."""

from pushforward.reports.calibration import plot_calibration as plot_calibration
from pushforward.reports.summary import Facts as Facts, Summary as Summary
