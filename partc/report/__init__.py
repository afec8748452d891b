"""Reports: the HTML page of a bundle, and tables for the terminal."""

from partc.report.page import render_report

__all__ = ["render_report"]
