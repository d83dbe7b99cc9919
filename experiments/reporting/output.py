"""Where a report goes: the page, and each picture and table as a file."""

from collections.abc import Iterable, Sequence
import csv
import io
import pathlib
from typing import Any

from matplotlib import figure as mpl_figure

from experiments.reporting import markup, plots, svg
from score_jax.io import json_files


class Output:
  """A directory with report.html and, in report/, its PNG and CSV files."""

  def __init__(self, path: pathlib.Path):
    """Makes the directory where it is not there."""
    self.page = path / 'report.html'
    self._folder = path / 'report'
    self._folder.mkdir(parents=True, exist_ok=True)
    self.written: list[pathlib.Path] = []

  def picture(
    self,
    name: str,
    picture: mpl_figure.Figure,
    narrow: mpl_figure.Figure | None = None,
    *,
    caption: Any,
  ) -> markup.Html:
    """Writes NAME.png and returns the picture for the page.

    Args:
      name: unique on the page.
      picture: as the charts draw it.
      narrow: the same, to be shown in narrow windows instead; with it,
        `picture` may be wide.
      caption: stands below it.
    """
    plots.save_png(picture, self._new(f'{name}.png'))
    inline = svg.inline(picture, name, str(caption))
    if narrow is None:
      return markup.figure(inline, caption)
    both = markup.join(
      [
        markup.element('div', inline, class_='if-wide'),
        markup.element(
          'div',
          svg.inline(narrow, f'{name}-narrow', str(caption)),
          class_='if-narrow',
        ),
      ]
    )
    return markup.figure(both, caption, is_wide=True)

  def table(
    self, name: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]
  ) -> None:
    """Writes NAME.csv."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(headings)
    writer.writerows(rows)
    json_files.write_text(self._new(f'{name}.csv'), stream.getvalue())

  def _new(self, name: str) -> pathlib.Path:
    path = self._folder / name
    self.written.append(path)
    return path
