"""Where a report goes: the page, and each picture and table as a file."""

from collections.abc import Iterable, Sequence
import csv
import io
import pathlib
from typing import Any

from matplotlib import figure as mpl_figure

from experiments import files
from experiments.reporting import markup, svg
from score_jax.evaluation import plots


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
    caption: Any,
    *,
    is_wide: bool = False,
  ) -> markup.Html:
    """Writes NAME.png and returns the picture for the page."""
    path = self._new(f'{name}.png')
    plots.save_png(picture, path)
    inline = svg.inline(picture, name, str(caption))
    return markup.figure(inline, caption, is_wide=is_wide)

  def table(
    self, name: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]
  ) -> None:
    """Writes NAME.csv."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(headings)
    writer.writerows(rows)
    files.write_text(self._new(f'{name}.csv'), stream.getvalue())

  def _new(self, name: str) -> pathlib.Path:
    path = self._folder / name
    self.written.append(path)
    return path
