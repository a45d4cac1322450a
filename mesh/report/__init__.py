"""What a person sees of a run, and what programs read of it: all made from the one stream of news."""

from mesh.report.events import event_line, event_name, event_object
from mesh.report.reporter import Reporter, ReporterKind, make_reporter
from mesh.report.summary import Lane, Progress, Summary

__all__ = [
    "Lane",
    "Progress",
    "Reporter",
    "ReporterKind",
    "Summary",
    "event_line",
    "event_name",
    "event_object",
    "make_reporter",
]
