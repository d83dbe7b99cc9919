"""The import benchmark at a real size, and what it has to show."""

import re

import pytest

from experiments import benchmark


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['hugging_face', 'orbax'])
def test_memory_beyond_the_result_is_less_than_a_tensor(
  layout, tmp_path, capfd
):
  """Gemma 3 270M; as float32 its largest leaf is twice as large."""
  code = benchmark.main(
    [
      'gemma_import',
      '--model=gemma-3-270m',
      f'--format={layout}',
      '--max-file-mb=100',
      f'--directory={tmp_path}',
    ]
  )
  assert code == 0
  shown = capfd.readouterr().out

  def column(name):
    found = re.findall(rf'{name} +([0-9,]+) MiB', shown)
    return [int(number.replace(',', '')) for number in found]

  assert column('result') == [511, 1023]
  [tensor, _] = column('largest tensor of the files, the embedding')
  assert tensor == 320
  assert max(column('peak beyond result and before')) < tensor
  assert not list(tmp_path.iterdir())
