"""The paper's results, to stand beside a run's (paper_results.json).

arXiv:2409.12917v2 and the camera-ready version (ICLR 2025), whose tables are
numbered differently where they have grown. All numbers are in percent.
"""

import json
import pathlib

from experiments.reporting import tables

_PATH = pathlib.Path(__file__).with_name('paper_results.json')


def find(section: str, task: str) -> list[tables.Table]:
  """The paper's tables for a section of the page, on problems like a task's."""
  return [
    tables.Table(
      table['headings'],
      [
        [tables.Cell(name), *[tables.Cell(f'{v:.1f}') for v in values]]
        for name, values in table['rows'].items()
      ],
      title=f'The paper: {table["title"]}',
      caption=f'{table["source"]}; percent.',
    )
    for table in json.loads(_PATH.read_text(encoding='utf-8'))
    if table['section'] == section and task in table['tasks']
  ]
