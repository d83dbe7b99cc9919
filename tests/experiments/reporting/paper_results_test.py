"""The paper's numbers are consistent, and stand beside its tasks only."""

import pytest

from experiments.reporting import tables


def test_the_numbers_add_up():
  # Second minus first attempt, and corrected minus spoilt, in every row.
  found = [
    *tables.of_the_paper('Results', 'math'),
    *tables.of_the_paper('Results', 'mbpp'),
  ]
  checked = 0
  for table in found:
    columns = {name: i for i, name in enumerate(table.headings)}
    if 'Δ(t1,t2)' not in columns:
      continue
    for row in table.rows:
      values = [None, *[float(cell.value) for cell in row[1:]]]
      first, second, delta = (
        values[columns[n]] for n in ('Accuracy@t1', 'Accuracy@t2', 'Δ(t1,t2)')
      )
      assert second - first == pytest.approx(delta, abs=0.05), row
      if 'Δ i→c' in columns:
        corrected, spoilt = values[columns['Δ i→c']], values[columns['Δ c→i']]
        assert corrected - spoilt == pytest.approx(delta, abs=0.05), row
      checked += 1
  assert checked == 7 + 6 + 4


@pytest.mark.parametrize(
  ('task', 'count'), [('math', 3), ('mbpp', 1), ('repair', 1), ('gsm8k', 0)]
)
def test_only_tasks_of_the_paper_have_its_numbers(task, count):
  assert len(tables.of_the_paper('Results', task)) == count
