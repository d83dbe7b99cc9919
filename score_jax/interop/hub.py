"""Checkpoints by name: downloaded from the Hugging Face Hub, Kaggle, a bucket.

    hf:google/gemma-3-270m-it                      its newest revision
    hf:google/gemma-3-270m-it@main                 a branch, a tag or a commit
    kaggle:google/gemma-3/flax/gemma-3-270m-it     its newest version
    kaggle:google/gemma-3/flax/gemma-3-270m-it/1   version 1
    gs://BUCKET/NAME, s3://BUCKET/NAME             a directory in a bucket

Whatever else names a checkpoint is a local directory. The clients, of the
extras `hub`, `gs` and `s3`, keep what they download (HF_HOME, KAGGLEHUB_CACHE,
SCORE_JAX_CACHE), so that each file is downloaded once.
"""

from collections.abc import Callable
import dataclasses
import functools
import importlib
import importlib.util
import pathlib
import re

from score_jax import distributed
from score_jax.interop import checkpoint_formats
from score_jax.io import buckets

_CONFIG = 'config.json'
# What is read of a repository, whose other formats may be as large again.
_FILES = (
  _CONFIG,
  'generation_config.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'chat_template.*',
  '*.safetensors',
  'model.safetensors.index.json',
  'LICENSE*',
)
_EXAMPLE = 'hf:google/gemma-3-270m-it'


class HubError(RuntimeError):
  """A checkpoint cannot be had; the message, of one line, says what to do."""


@dataclasses.dataclass(frozen=True)
class _Hub:
  """A place that checkpoints are downloaded from.

  Attributes:
    client: module, and package, of its client.
    cache: environment variable that says where that keeps its downloads.
    access: environment variables that tell the hub who asks.
    site: what the page of a model, with its licence, is below.
    names: pattern of its names. Groups: `plain`, the name without revision,
      `page`, `label`, the model's own name, and `revision`.
    form: the pattern, for people.
    joint: between `plain` and the revision.
    download: from (match of the pattern, whether config.json is enough) to a
      local directory whose own name is the revision.
  """

  client: str
  cache: str
  access: str
  site: str
  names: str
  form: str
  joint: str
  download: Callable[[re.Match, bool], str]

  def match(self, source: str) -> re.Match | None:
    return re.fullmatch(self.names, source)


def is_name(source: str) -> bool:
  """Whether a checkpoint is named, and not a local directory."""
  return _hub(source) is not None


def reason_against(source: str) -> str | None:
  """Why a checkpoint cannot be had, as far as this machine tells; None: it may.

  Downloads nothing.
  """
  hub = _hub(source)
  if hub is None and not pathlib.Path(source).is_dir():
    return _no_directory(source)
  if hub is None:
    return None
  if not hub.match(source):
    return f'is not of the form {hub.form}'
  if importlib.util.find_spec(hub.client) is None:
    return f'needs the package {hub.client}: pip install {hub.client}'
  return None


def label(source: str) -> str:
  """A checkpoint's own name, such as gemma-3-270m-it."""
  hub = _hub(source)
  if hub is None:
    return pathlib.Path(source).resolve().name
  return hub.match(source)['label']


def fetch(source: str, *, config_only: bool = False) -> pathlib.Path:
  """The local directory of a checkpoint. Collective.

  A name is downloaded, by one process of each host, unless the host has it; it
  is looked up once in a program, which so sees one revision alone.

  Args:
    source: name or local directory.
    config_only: only config.json is asked for.

  Raises:
    HubError: there is no such checkpoint, or it is not to be had.
  """
  if not is_name(source):
    distributed.everywhere(lambda: _check(source))
    return pathlib.Path(source)
  return checkpoint_formats.inner(_download(source, config_only))


def pinned(source: str) -> str:
  """The name with the revision that `fetch` found. Collective.

  A local directory stays as it is.

  Raises:
    HubError: as `fetch`.
  """
  hub = _hub(source)
  if hub is None:
    return source
  revision = _download(source, False).name
  return hub.match(source)['plain'] + hub.joint + revision


@functools.cache
def _download(source: str, config_only: bool) -> pathlib.Path:
  """The download's directory, called like its revision. Collective."""
  hub = _hub(source)

  def download():
    _check(source)
    try:
      return hub.download(hub.match(source), config_only)
    except Exception as error:  # of the client, the connection, the disk
      why = _reason(hub, hub.match(source), error)
      raise HubError(f'{source}: {why}') from error

  path = pathlib.Path(distributed.by_hosts(download))
  if not distributed.all_of(path.is_dir()):
    raise HubError(
      f'{source}: not every process sees {path}, where another of its host has '
      f'downloaded it: let all of a host have one {hub.cache}'
    )
  revisions = sorted(set(distributed.gather(path.name)))
  if len(revisions) > 1:
    named = f'{hub.match(source)["plain"]}{hub.joint}{revisions[0]}'
    raise HubError(
      f'{source}: the hosts have different revisions, {", ".join(revisions)}; '
      f'name one: {named}'
    )
  return path


def _check(source: str) -> None:
  if why := reason_against(source):
    raise HubError(f'{source}: {why}')


def _hugging_face(match: re.Match, config_only: bool) -> str:
  client = importlib.import_module('huggingface_hub')
  return client.snapshot_download(
    match['page'],
    revision=match['revision'],
    allow_patterns=[_CONFIG] if config_only else list(_FILES),
    # Patterns match in subdirectories, too.
    ignore_patterns='*/*',
  )


def _kaggle(match: re.Match, config_only: bool) -> str:
  client = importlib.import_module('kagglehub')
  handle = match.string.partition(':')[2]
  if config_only:
    return str(pathlib.Path(client.model_download(handle, _CONFIG)).parent)
  return client.model_download(handle)


def _bucket(match: re.Match, config_only: bool) -> str:
  only = [_CONFIG] if config_only else None
  return str(buckets.download(match['plain'], only))


_HUBS = {
  'hf': _Hub(
    client='huggingface_hub',
    cache='HF_HOME',
    access='HF_TOKEN',
    site='https://huggingface.co/',
    names=(
      r'(?P<plain>hf:(?P<page>[\w.-]+/(?P<label>[\w.-]+)))'
      r'(@(?P<revision>[\w./-]+))?'
    ),
    form=f'hf:OWNER/MODEL or hf:OWNER/MODEL@REVISION, such as {_EXAMPLE}',
    joint='@',
    download=_hugging_face,
  ),
  'kaggle': _Hub(
    client='kagglehub',
    cache='KAGGLEHUB_CACHE',
    access='KAGGLE_USERNAME and KAGGLE_KEY',
    site='https://www.kaggle.com/models/',
    names=(
      r'(?P<plain>kaggle:(?P<page>[\w.-]+/[\w.-]+)/[\w.-]+/(?P<label>[\w.-]+))'
      r'(/(?P<revision>\d+))?'
    ),
    form=(
      'kaggle:OWNER/MODEL/FRAMEWORK/VARIATION, with /VERSION or without, such '
      'as kaggle:google/gemma-3/flax/gemma-3-270m-it'
    ),
    joint='/',
    download=_kaggle,
  ),
} | {
  scheme: _Hub(
    client=client,
    cache='SCORE_JAX_CACHE',
    access="its cloud's own variables",
    site=f'{scheme}://',
    names=(
      rf'(?P<plain>{scheme}://(?P<page>[^/#]+/([^#]+/)?(?P<label>[^/#]+)))/*'
      r'(#(?P<revision>\w+))?'
    ),
    form=f'{scheme}://BUCKET/NAME',
    joint='#',
    download=_bucket,
  )
  for scheme, client in buckets.CLIENTS.items()
}


def _hub(source: str) -> _Hub | None:
  scheme, colon, _ = source.partition(':')
  return _HUBS.get(scheme) if colon else None


def _no_directory(source: str) -> str:
  looks_like_a_name = re.fullmatch(r'[\w-][\w.-]*/[\w.-]+', source)
  example = f'hf:{source}' if looks_like_a_name else _EXAMPLE
  return (
    'there is no such directory; pass one with a Hugging Face checkpoint '
    '(config.json, *.safetensors) or an Orbax one, or a name to download: '
    f'{example}'
  )


def _reason(hub: _Hub, match: re.Match, error: Exception) -> str:
  """What a client's error means, in a line."""
  if isinstance(error, buckets.BucketError):
    return str(error).removeprefix(f'{match["plain"]}: ')
  kind, page = type(error).__name__, hub.site + match['page']
  # Of both clients; Hugging Face's may stand behind another error.
  answers = [getattr(e, 'response', None) for e in (error, error.__cause__)]
  status = next((a.status_code for a in answers if a is not None), None)
  if kind == 'GatedRepoError' or status == 403:
    return (
      f'the model is gated: accept its licence at {page}, and set {hub.access} '
      'to those of your account there'
    )
  if kind == 'RevisionNotFoundError':
    return f'the model has no revision {match["revision"]}; see {page}'
  if status in (401, 404):
    return (
      f'there is no such model, or it is not for everybody: see {page}, and '
      f'set {hub.access}'
    )
  is_offline = isinstance(error, ConnectionError | FileNotFoundError)
  if is_offline or kind == 'ConnectionError':  # of requests, which has its own
    return (
      f'{hub.site} cannot be reached, and {hub.cache} has no whole copy of the '
      'model; bring one, and pass its directory'
    )
  return f'the download failed: {kind}: {" ".join(str(error).split())[:300]}'
