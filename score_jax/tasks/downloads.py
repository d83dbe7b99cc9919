"""Published data sets: from a user's files, or by tensorflow-datasets (TFDS).

TFDS needs no TensorFlow here. It keeps what it prepared under
`~/tensorflow_datasets` (or `TFDS_DATA_DIR`), so a data set is downloaded once.
GSM8K has a builder there; for MATH, MBPP and HumanEval, which have none,
`RawRows` keeps the published file's rows as they are. Each of their files is
known by its SHA-256 and is at two addresses, so that the second may stand in
for the first.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import json
import types as python_types
from typing import Any

from etils import epath
import numpy as np

from score_jax.tasks import records

Rows = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class PublishedFile:
  """A file of rows: .json, .jsonl or .jsonl.gz.

  Attributes:
    urls: its addresses, the authors' own first.
    size: in bytes.
    sha256: of its bytes.
  """

  urls: tuple[str, ...]
  size: int
  sha256: str

  @property
  def name(self) -> str:
    """Its name; the suffix tells the format."""
    return self.urls[0].rsplit('/', 1)[-1]


def read_or_download(
  data_dir: str | None,
  files: Mapping[str, Sequence[str]],
  download: Callable[[], Rows],
) -> Rows:
  """Rows of a data set by split.

  Args:
    data_dir: the user's directory of original files, a path or URL; None
      downloads.
    files: relative paths of each split's file, the preferred one first.
    download: gets the rows without a `data_dir`.

  Raises:
    FileNotFoundError: a split has none of its files; the message lists them.
    OSError: the download failed.
  """
  if data_dir is None:
    return download()
  return {
    split: records.read_rows(_find_file(data_dir, names))
    for split, names in files.items()
  }


def _find_file(data_dir: str, names: Sequence[str]) -> epath.Path:
  directory = epath.Path(data_dir).expanduser()
  for name in names:
    if (directory / name).is_file():
      return directory / name
  raise FileNotFoundError(
    f'data_dir={data_dir} holds none of: {", ".join(names)}. Put the original '
    'file under one of these names, or pass no data_dir to download it.'
  )


def gsm8k_rows() -> Rows:
  """GSM8K's rows by split, from TFDS's own builder."""
  tfds = _tfds_module()
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


def raw_rows(name: str, files: Mapping[str, PublishedFile]) -> Rows:
  """Rows of published files by split, in the order of the file.

  Args:
    name: snake-case name under which TFDS keeps them.
    files: each split's.

  Raises:
    OSError: none of a file's addresses serves its bytes; the message names each
      address, and what was wrong there.
  """
  tfds = _tfds_module()
  checksums = importlib.import_module(
    'tensorflow_datasets.core.download.checksums'
  )

  class RawRows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Keeps each row as the text of its JSON, with its place in the file."""

    # What version 1.0.0 prepared was not compared with any sum.
    VERSION = tfds.core.Version('1.1.0')
    # TFDS rejects, and does not keep, a download of another sum.
    url_infos = {
      url: checksums.UrlInfo(file.size, file.sha256, file.name)
      for file in files.values()
      for url in file.urls
    }

    def _info(self):
      features = {
        'index': tfds.features.Scalar(np.int64),
        'row': tfds.features.Text(),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        description=f'The rows of {", ".join(self.url_infos)}, unchanged.',
        features=tfds.features.FeaturesDict(features),
      )

    def _split_generators(self, dl_manager):
      return {
        split: self._generate_examples(_download(dl_manager, file), file.name)
        for split, file in files.items()
      }

    def _generate_examples(self, path, file_name):
      # TFDS's cached files have no suffix.
      for index, row in enumerate(records.read_rows(path, name=file_name)):
        yield index, {'index': index, 'row': json.dumps(row)}

  RawRows.name = name
  builder = RawRows(file_format='array_record')
  _prepare(builder)
  rows = {}
  for split in files:
    stored = sorted(
      builder.as_data_source(split=split), key=lambda row: row['index']
    )
    rows[split] = [json.loads(row['row']) for row in stored]
  return rows


def _download(dl_manager: Any, file: PublishedFile) -> Any:
  """Path of the file's download, from the first address that has its bytes."""
  failures = []
  for url in file.urls:
    try:
      return dl_manager.download(url)
    except Exception as error:  # of TFDS, of the connection, of the disk
      why = ' '.join(str(error).split())[:200]
      if type(error).__name__ == 'NonMatchingChecksumError':
        why = 'it serves other bytes than were published'
      failures.append(f'{url} ({why})')
  raise OSError(f'tried {" and ".join(failures)}')


def _tfds_module() -> python_types.ModuleType:
  """tensorflow_datasets, imported by those alone who download."""
  try:
    return importlib.import_module('tensorflow_datasets')
  except ImportError as error:
    raise ImportError(
      'downloading a data set needs tensorflow-datasets (pip install '
      'tensorflow-datasets); data_dir=DIR reads original files instead'
    ) from error


def _prepare(builder) -> None:
  try:
    builder.download_and_prepare()
  except Exception as error:  # of TFDS, of the connection, of the disk
    raise OSError(
      f'could not download {builder.name}: {error}. Without a connection, '
      'pass a data_dir of original files'
    ) from error
