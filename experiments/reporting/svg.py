"""Matplotlib's pictures as inline SVG that follows the page's colours."""

import html
import io
import re

import matplotlib as mpl
from matplotlib import figure as mpl_figure

from experiments.reporting import charts, markup, plots

# Colours of the pictures to custom properties of the style sheet.
VARIABLES = (
  {colour: f'c{i}' for i, colour in enumerate(plots.COLOURS, start=1)}
  | {
    plots.INK: 'ink',
    plots.MUTED: 'muted',
    plots.GRID: 'grid',
    plots.PAPER: 'page',
  }
  | {
    colour: outcome.replace('_', '-')
    for outcome, colour in charts.OUTCOME_COLOURS.items()
  }
)


def inline(
  picture: mpl_figure.Figure, name: str, description: str
) -> markup.Html:
  """A picture as an <svg> element without anything from outside.

  Args:
    picture: as `experiments.reporting.charts` draws it.
    name: unique on the page: the ids within derive from it.
    description: for those who cannot see it.
  """
  # Text stays text, ids do not change from one day to the next.
  with mpl.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
    stream = io.StringIO()
    picture.savefig(stream, format='svg', transparent=True, metadata={
      'Date': None, 'Creator': None, 'Format': None, 'Type': None,
    })  # fmt: skip
  text = stream.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = text.replace('xlink:href', 'href')
  # Only what is referred to keeps its id: others come in every picture.
  text = re.sub(r'<g id="[^"]*"', '<g', text)
  view = re.search(r'viewBox="([^"]*)"', text)[1]
  text = (
    f'<svg viewBox="{view}" role="img" aria-label="{html.escape(description)}">'
    + text[text.index('>') + 1 :]
  )
  for colour, variable in VARIABLES.items():
    text = text.replace(colour, f'var(--{variable})')
  text = re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', text)
  return markup.Html(text.strip())
