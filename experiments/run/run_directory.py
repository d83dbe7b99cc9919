"""A run on disk: its settings, the paths of its parts, its lock.

config.json has the resolved settings, versions and data digests; base/, stage1/
and stage2/ (stage1a/, stage1b/ for three turns) have checkpoints/,
metrics.jsonl, samples.jsonl and tensorboard/; results.json, report.html and
curves.png are its outcome; written.json, here and in each stage, has digests of
the files beside it. A run that starts from a published checkpoint has its small
files in pretrained/, and in base/ only which one it is.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
from typing import Any

from etils import epath

from experiments.config import checks, environment, fields, schema
from experiments.run import run_storage
from score_jax import distributed, types
from score_jax.io import json_files, written_files

_LOGGER = logging.getLogger(__name__)
# Of whatever a run cannot do.
RunError = run_storage.RunError


@dataclasses.dataclass(frozen=True)
class StageDirectory:
  """Directory of one stage: `base`, `stage1`, `stage2`, `stage1a`, ....

  Attributes:
    path: where its files are.
    place: where the stage is, a path or URL.
  """

  path: pathlib.Path
  place: epath.Path

  @property
  def name(self) -> str:
    """The stage's name."""
    return self.path.name

  @property
  def written(self) -> written_files.WrittenFiles:
    """Digests of the stage's files."""
    return written_files.WrittenFiles(self.path)

  @property
  def checkpoints(self) -> epath.Path:
    """Directory of `score_jax.checkpoints.checkpointing.Checkpoints`."""
    return self.place / run_storage.CHECKPOINTS

  @property
  def source(self) -> pathlib.Path:
    """For `base`: the checkpoint that --init-from names, by its fingerprint."""
    return self.path / 'source.json'

  @property
  def profile(self) -> pathlib.Path:
    """Directory of the traces of --profile."""
    return self.path / 'profile'

  @property
  def metrics(self) -> pathlib.Path:
    """One JSON record a step."""
    return self.path / 'metrics.jsonl'

  @property
  def samples(self) -> pathlib.Path:
    """One JSON record an episode."""
    return self.path / 'samples.jsonl'

  @property
  def evaluation(self) -> pathlib.Path:
    """One JSON record a held-out problem, graded attempts included."""
    return self.path / 'evaluation.jsonl'

  @property
  def collected(self) -> pathlib.Path:
    """For a supervised stage: the graded episodes that it learns from."""
    return self.path / 'collected'

  @property
  def pairs(self) -> pathlib.Path:
    """For a supervised stage: how many pairs of attempts it learns from."""
    return self.path / 'pairs.json'

  @property
  def tensorboard(self) -> pathlib.Path:
    """TensorBoard's event files."""
    return self.path / 'tensorboard'

  def has_begun(self) -> bool:
    """Whether a checkpoint was saved."""
    return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

  def is_finished(self, steps: int) -> bool:
    """Whether all of `steps` updates were made and their policy chosen.

    A collective: a shared file system may show a file to one process earlier
    than to another, and all must decide alike.
    """
    return distributed.agree(self._finished_steps() >= steps)

  def mark_finished(self, steps: int) -> None:
    """Notes that all updates were made; call it after the last checkpoint."""
    self.written.replace_json(self.marker, {'steps': steps})

  @property
  def marker(self) -> pathlib.Path:
    """Exists where the stage is finished."""
    return self.path / 'finished.json'

  def _finished_steps(self) -> int:
    # A damaged one is as good as none: the last checkpoint makes it again.
    if not (self.marker.exists() and self.written.is_intact(self.marker)):
      return -1
    return json.loads(self.marker.read_text())['steps']


class RunDirectory:
  """The directory of a run. Opening one changes nothing on disk.

  Attributes:
    place: where the run is, a path or URL.
    path: where its files are: `place` itself or, for a URL, a folder that
      mirrors it, empty until `lock` or `existing` fills it.
  """

  def __init__(self, place: str | os.PathLike):
    self._storage = run_storage.of(place)
    self.place = self._storage.place
    self.path = self._storage.path
    self.config = self.path / 'config.json'
    self.tokenizer = self.path / 'tokenizer.model'
    self.pretrained = self.path / 'pretrained'
    # All processes see it, also where each has a mirror of its own.
    self.compiled = self.place / run_storage.COMPILED
    self.results = self.path / 'results.json'
    self.report = self.path / 'report.html'
    self.curves = self.path / 'curves.png'
    self.written = written_files.WrittenFiles(self.path)

  @classmethod
  def existing(cls, place: str | os.PathLike) -> 'RunDirectory':
    """The directory of a run that is to be read. Not a collective.

    Raises:
      RunError: it is in a bucket that cannot be read.
    """
    directory = cls(place)
    directory._storage.pull()
    return directory

  def __str__(self) -> str:
    return str(self.place)

  def shown(self, path: pathlib.Path) -> epath.Path:
    """The place of one of the run's files, for people."""
    return self.place / path.relative_to(self.path)

  def stage(self, name: str) -> StageDirectory:
    """Directory of the base policy or of a stage, existing or not."""
    return StageDirectory(self.path / name, self.place / name)

  def push(self) -> None:
    """Uploads what was written, where the run is in a bucket. A collective.

    Raises:
      RunError: it cannot be uploaded, or another trainer has taken the lock.
    """
    self._storage.push()

  def share(self) -> None:
    """As `push`, and the other processes download it. A collective.

    Raises:
      RunError: as `push`, or a process cannot download it.
    """
    self._storage.share()

  def read_results(self) -> dict[str, Any]:
    """results.json, empty where there is none. A collective."""
    return distributed.by_first(self.own_results)

  def own_results(self) -> dict[str, Any]:
    """As `read_results`, for one process alone.

    Raises:
      RunError: it is not what a run writes.
    """
    if not self.results.is_file():
      return {}
    results = json_files.read_json(self.results)
    is_read = isinstance(results, dict)
    if not (is_read and self.written.is_intact(self.results)):
      raise RunError(
        f'{self.shown(self.results)} is damaged; remove it, and python -m '
        f'experiments.train --run-dir={self} evaluates again'
      )
    return results

  def write_results(self, results: Mapping[str, Any]) -> None:
    """Replaces results.json."""
    self.written.replace_json(self.results, results)

  @contextlib.contextmanager
  def lock(self) -> Iterator[None]:
    """Locks the directory against other trainers. The first process holds it.

    A killed trainer leaves none behind on a disk; in a bucket, its lock is
    taken over after half a minute. What is there is downloaded, and in the end
    all is uploaded.

    Raises:
      RunError: another trainer holds it; says which. Or not all processes see
        the directory; says which hosts do not. Or the disk refuses a write.
    """
    with (
      run_storage.explaining_refusals(self.path),
      self._storage.lock(self._check_may_be_written),
    ):
      yield

  def _check_may_be_written(self) -> None:
    if not self._has_config():
      # It may be somebody else's directory.
      self._check_unused()

  def begin(self, settings: schema.Settings, data: Mapping[str, str]) -> bool:
    """Writes config.json, or checks that an existing run is this one.

    Args:
      settings: the run's.
      data: digests of training and held-out problems, by name.

    Returns:
      Whether a run is continued.

    Raises:
      RunError: the existing run was started with other settings or data,
        or the directory holds something else.
    """
    return distributed.by_first(lambda: self._begin(settings, data))

  def _begin(self, settings: schema.Settings, data: Mapping[str, str]) -> bool:
    config = {
      'settings': dataclasses.asdict(settings),
      'versions': environment.versions(),
      'environment': environment.variables(),
      'data': dict(data),
    }
    text = json_files.dumps(config)
    is_continued = self._has_config() and self._has_begun()
    if is_continued and self.written.is_intact(self.config):
      self._check_same(settings, config)
    elif is_continued and self.written.accepts(self.config, text.encode()):
      _LOGGER.warning('%s was damaged; it is made again', self.config)
    elif is_continued:
      raise RunError(
        f'{self.config} is damaged, and these flags and versions are not those '
        'that it had: pass the flags that the run was started with, restore '
        'the file, or start another run with --run-dir=DIR'
      )
    elif self._has_config():
      # A run that was rejected before it made anything: begin anew.
      self._forget_base()
    else:
      self._check_unused()
    self.written.replace(self.config, text)
    return is_continued

  def _has_config(self) -> bool:
    """Whether this is a run, whatever has become of its config.json."""
    return self.config.exists() or self.written.has(self.config)

  def _forget_base(self) -> None:
    """Removes the files that a run has before its first policy."""
    self.stage('base').written.remove(self.stage('base').source)
    for path in (self.tokenizer, *self.pretrained.glob('*')):
      self.written.remove(path)

  def _has_begun(self) -> bool:
    made = ('results.json', 'evaluations/*')
    return any(any(self.path.glob(pattern)) for pattern in made) or any(
      self.stage(path.name).has_begun() for path in self.place.iterdir()
    )

  def read_settings(self) -> schema.Settings:
    """The settings of the existing run.

    Raises:
      RunError: there is no run, or it is of another version.
    """
    # A run whose record does not name them has no validation problems.
    record = {'validation_problems': 0} | self._read_config()['settings']
    try:
      return fields.from_record(schema.Settings, record)
    except (ValueError, TypeError, AttributeError) as error:
      # The latter where a group of settings is no JSON object.
      raise RunError(f'{self.shown(self.config)}: {error}') from error

  def read_data(self) -> dict[str, str]:
    """Digests of the data that the run was started with, by name.

    Raises:
      RunError: there is no run.
    """
    return self._read_config()['data']

  def check_data(self, data: Mapping[str, str]) -> None:
    """Compares digests with those that the run was started with.

    Those of splits, and of what else both have.

    Raises:
      RunError: one differs.
    """
    before = self.read_data()
    for name in sorted({*types.SPLITS, *(before.keys() & data.keys())}):
      if before.get(name) != data.get(name):
        raise RunError(
          f'{self} was started with other data: {name} has digest '
          f'{before.get(name)} in the run, {data.get(name)} now; '
          'restore it, or start another run with --run-dir=DIR'
        )

  def _read_config(self) -> dict[str, Any]:
    if not self._has_config():
      raise RunError(
        f'{self} holds no run (no config.json); make one with: python -m '
        f'experiments.train --run-dir={self}'
      )
    config = json_files.read_json(self.config)
    parts = ('settings', 'versions', 'data')
    is_whole = isinstance(config, dict) and all(
      isinstance(config.get(part), dict) for part in parts
    )
    if not (is_whole and self.written.is_intact(self.config)):
      raise RunError(
        f'{self.shown(self.config)} is damaged or missing; the command that '
        'started the run makes it again, with the same flags; or restore the '
        'file'
      )
    return {part: config[part] for part in parts}

  def _check_same(
    self, settings: schema.Settings, config: Mapping[str, Any]
  ) -> None:
    existing = self.read_settings()
    free = checks.free(
      existing, settings, lambda name: self.stage(name).has_begun()
    )
    differences = fields.differences(
      fields.flatten(existing), fields.flatten(settings), free
    )
    if differences:
      raise RunError(
        f'{self} was started with other settings:\n  '
        + '\n  '.join(
          f'{name}: {a} in the run, {b} now' for name, a, b in differences
        )
        + '\ncontinue it with '
        + ' '.join(fields.as_flag(name, a) for name, a, _ in differences)
        + ', or start another run with --run-dir=DIR; with --fork-from='
        f'{self}, too, it goes on from the checkpoints of this one'
      )
    self.check_data(config['data'])
    for name, version in self._read_config()['versions'].items():
      if config['versions'].get(name) != version:
        _LOGGER.warning(
          '%s was %s when this run was started and is %s now: results may '
          'differ in their last bits',
          name,
          version,
          config['versions'].get(name),
        )

  def _check_unused(self) -> None:
    contents = [
      path.name
      for path in (self.place.iterdir() if self.place.is_dir() else ())
      if path.name != run_storage.LOCK and not path.name.startswith('.')
    ]
    if contents:
      raise RunError(
        f'{self} holds no run (no config.json) but is not empty '
        f'({", ".join(sorted(contents)[:3])}, ...); choose another --run-dir'
      )
