"""Data sets by tensorflow-datasets, without TensorFlow: download, cache, read.

TFDS keeps what it prepared under `~/tensorflow_datasets` (or
`TFDS_DATA_DIR`), so a data set is downloaded once. GSM8K has a builder there;
for MATH, MBPP and HumanEval, which have none, `RawRows` keeps the published
file's rows as they are.
"""

from collections.abc import Mapping
import importlib
import json
import types as python_types
from typing import Any

import numpy as np

from score_jax.tasks import records


def tfds_module() -> python_types.ModuleType:
  """tensorflow_datasets, or an error that says how to do without."""
  try:
    return importlib.import_module('tensorflow_datasets')
  except ImportError as error:
    raise ImportError(
      'downloading a data set needs tensorflow-datasets (pip install '
      'tensorflow-datasets); --data-dir=DIR reads original files instead'
    ) from error


def gsm8k_rows() -> dict[str, list[dict[str, str]]]:
  """GSM8K's rows by split, from TFDS's own builder."""
  tfds = tfds_module()
  # The builder registers itself on import, which TFDS leaves out without TF.
  importlib.import_module('tensorflow_datasets.text.gsm8k')
  builder = tfds.builder('gsm8k', file_format='array_record')
  _prepare(builder)
  return {
    split: [
      {name: value.decode() for name, value in row.items()}
      for row in builder.as_data_source(split=split)
    ]
    for split in ('train', 'test')
  }


def raw_rows(
  name: str, urls: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
  """Rows of published JSON files by split, in the order of the file.

  Args:
    name: snake-case name under which TFDS keeps them.
    urls: address of each split's .json, .jsonl or .jsonl.gz file.
  """
  tfds = tfds_module()

  class RawRows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Keeps each row as the text of its JSON, with its place in the file."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = {
        'index': tfds.features.Scalar(np.int64),
        'row': tfds.features.Text(),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        description=f'The rows of {", ".join(urls.values())}, unchanged.',
        features=tfds.features.FeaturesDict(features),
      )

    def _split_generators(self, dl_manager):
      # The suffix tells the format, and TFDS's cached files have none.
      paths = dl_manager.download(dict(urls))
      return {
        split: self._generate_examples(path, urls[split])
        for split, path in paths.items()
      }

    def _generate_examples(self, path, url):
      file_name = url.rsplit('/', 1)[-1]
      for index, row in enumerate(records.read_rows(path, name=file_name)):
        yield index, {'index': index, 'row': json.dumps(row)}

  RawRows.name = name
  builder = RawRows(file_format='array_record')
  _prepare(builder)
  rows = {}
  for split in urls:
    stored = sorted(
      builder.as_data_source(split=split), key=lambda row: row['index']
    )
    rows[split] = [json.loads(row['row']) for row in stored]
  return rows


def _prepare(builder) -> None:
  try:
    builder.download_and_prepare()
  except Exception as error:
    raise RuntimeError(
      f'could not download {builder.name}: {error}. Without a connection, '
      'give --data-dir=DIR with the original files.'
    ) from error
