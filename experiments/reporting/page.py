"""Parts of the page, and where it goes with its plots and tables as files."""

from collections.abc import Sequence
import io
import pathlib
import re
from typing import Any, NamedTuple

import markupsafe
import matplotlib as mpl
from matplotlib import figure as mpl_figure

from experiments.reporting import charts, plots, tables

# Colours of the plots -> variables of templates/page.css, which has another
# value of each for dark screens.
_OUTCOMES = charts.OUTCOME_COLOURS.items()
_VARIABLES = {
  **{colour: f'c{i}' for i, colour in enumerate(plots.COLOURS, start=1)},
  **{colour: outcome.replace('_', '-') for outcome, colour in _OUTCOMES},
  plots.INK: 'ink',
  plots.MUTED: 'muted',
  plots.GRID: 'grid',
  plots.PAPER: 'page',
}


class Figure(NamedTuple):
  """A plot as an SVG element; a wide one has no other beside it."""

  svg: markupsafe.Markup
  caption: str
  is_wide: bool = False


class Section(NamedTuple):
  """A part of the page: tables, and figures that stand side by side."""

  title: str
  parts: Sequence[tables.Table | Sequence[Figure]]


class Output:
  """A directory with report.html and, in report/, PNG and CSV files."""

  def __init__(self, path: pathlib.Path):
    """Makes the directory if it does not exist."""
    self.page = path / 'report.html'
    self.written: list[pathlib.Path] = []  # of report/, so far
    self._folder = path / 'report'
    self._folder.mkdir(parents=True, exist_ok=True)

  def figure(
    self, name: str, figure: mpl_figure.Figure, caption: str, **options: bool
  ) -> Figure:
    """Writes NAME.png (unique on the page); returns the plot for the page."""
    plots.save_png(figure, self._new(f'{name}.png'))
    return Figure(inline_svg(figure, name, caption), caption, **options)

  def table(
    self, name: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]
  ) -> None:
    """Writes NAME.csv, if there are rows."""
    if rows:
      tables.write_csv(self._new(f'{name}.csv'), headings, rows)

  def _new(self, name: str) -> pathlib.Path:
    path = self._folder / name
    self.written.append(path)
    return path


def inline_svg(
  figure: mpl_figure.Figure, name: str, description: str
) -> markupsafe.Markup:
  """A plot as an <svg> element in the page's font and colours.

  The ids within derive from the name, which must be unique on the page. The
  description is for screen readers.
  """
  stream = io.StringIO()
  # Text stays text, and ids are the same whenever a page is made.
  with mpl.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
    nothing = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
    figure.savefig(stream, format='svg', transparent=True, metadata=nothing)
  text = stream.getvalue()
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = text.replace('xlink:href', 'href')
  # Group ids such as axes_1 come in every plot, and nothing refers to them.
  text = re.sub(r'<g id="[^"]*"', '<g', text)
  for colour, variable in _VARIABLES.items():
    text = text.replace(colour, f'var(--{variable})')
  text = re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', text)
  # An element of the page needs no namespaces, and the page sets its width.
  view, content = re.search(
    r'<svg[^>]*viewBox="([^"]*)"[^>]*>(.*)', text, re.DOTALL
  ).groups()
  opening = markupsafe.Markup('<svg viewBox="{}" role="img" aria-label="{}">')
  return opening.format(view, description) + markupsafe.Markup(content.strip())
