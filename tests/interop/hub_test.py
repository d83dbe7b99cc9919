"""Checkpoints by name, with the hubs' real clients and a server of our own."""

import importlib.util
import os

import pytest

from score_jax.interop import hub
from tests.support import process_group, stand_in_hub

HF = 'hf:google/tiny'
KAGGLE = 'kaggle:google/tiny/flax/tiny-it'


@pytest.fixture
def server(tmp_path, monkeypatch):
  """The hubs' clients talk to a server with google/tiny, and cache nothing."""
  model = tmp_path / 'served/google/tiny'
  (model / 'onnx').mkdir(parents=True)
  for name in (
    'config.json',
    'tokenizer.model',
    'model.safetensors',
    'chat_template.jinja',
    'LICENSE',
    # Not read, and the first is as large as the weights.
    'pytorch_model.bin',
    'tokenizer.json',
    'onnx/config.json',
  ):
    (model / name).write_text(name)
  with stand_in_hub.talked_to(tmp_path, monkeypatch) as held:
    yield held


@stand_in_hub.needs('huggingface_hub')
def test_what_is_read_is_downloaded_once(server):
  path = hub.fetch(HF)
  assert {p.name: p.read_text() for p in path.iterdir()} == {
    name: name
    for name in (
      'config.json',
      'tokenizer.model',
      'model.safetensors',
      'chat_template.jinja',
      'LICENSE',
    )
  }
  assert len(server.downloads) == 5
  assert hub.pinned(HF) == f'{HF}@{"a" * 40}'
  hub._download.cache_clear()  # another program
  assert hub.fetch(hub.pinned(HF)) == path
  assert len(server.downloads) == 5


@stand_in_hub.needs('huggingface_hub')
def test_a_branch_that_moves_on_is_one_revision_to_a_program(server):
  server.revisions[:] = ['a' * 40, 'b' * 40]
  path = hub.fetch(HF)
  assert hub.fetch(HF) == path
  hub._download.cache_clear()
  assert hub.pinned(HF) == f'{HF}@{"b" * 40}'


@stand_in_hub.needs('huggingface_hub')
def test_only_the_configuration(server):
  path = hub.fetch(HF, config_only=True)
  assert [p.name for p in path.iterdir()] == ['config.json']
  assert server.downloads == ['config.json']


@stand_in_hub.needs('huggingface_hub')
def test_errors_of_hugging_face(server, monkeypatch):
  page = 'https://huggingface.co/google/'
  # What is unknown is 401, too.
  with pytest.raises(hub.HubError, match=f'no such model.*{page}tinny.*HF_TOK'):
    hub.fetch('hf:google/tinny')
  with pytest.raises(hub.HubError, match=f'no revision unknown; see {page}'):
    hub.fetch(f'{HF}@unknown')
  server.gated.add('google/tiny')
  says = (
    f'^{HF}: the model is gated: accept its licence at {page}tiny.*HF_TOKEN'
  )
  for token in (None, 'hf_of_somebody'):  # 401 and 403
    if token:
      monkeypatch.setenv('HF_TOKEN', token)
    with pytest.raises(hub.HubError, match=says) as error:
      hub.fetch(HF)
    assert '\n' not in str(error.value)


@stand_in_hub.needs('huggingface_hub')
def test_without_a_connection_what_was_downloaded_is_found(server, monkeypatch):
  from huggingface_hub import constants

  path = hub.fetch(HF)
  hub._download.cache_clear()
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert hub.fetch(HF) == path
  with pytest.raises(hub.HubError, match='cannot be reached, and HF_HOME') as e:
    hub.fetch('hf:google/other')
  assert '\n' not in str(e.value)


@stand_in_hub.needs('kagglehub')
def test_kaggle(server, tmp_path, monkeypatch):
  # As Google's Orbax checkpoints are: in a directory beside their tokenizer.
  model = tmp_path / 'served/google/gemma'
  (model / 'gemma-it').mkdir(parents=True)
  (model / 'gemma-it/_METADATA').write_text('{}')
  (model / 'tokenizer.model').write_text('x')
  name = 'kaggle:google/gemma/flax/gemma-it'
  path = hub.fetch(name)
  assert path.name == 'gemma-it'
  assert (path / '_METADATA').is_file()
  assert (path.parent / 'tokenizer.model').is_file()
  assert hub.pinned(name) == f'{name}/3'
  count = len(server.downloads)
  assert hub.fetch(f'{name}/3') == path
  assert len(server.downloads) == count
  path = hub.fetch(KAGGLE, config_only=True)
  assert [p.name for p in path.iterdir()] == ['config.json']
  page = 'https://www.kaggle.com/models/google/'
  with pytest.raises(hub.HubError, match=f'no such model.*{page}other'):
    hub.fetch('kaggle:google/other/flax/x')
  server.gated.add('google/tiny')
  with pytest.raises(hub.HubError, match=f'gated.*{page}tiny.*KAGGLE_KEY'):
    hub.fetch(KAGGLE + '/1')


PROCESS = """
import os
import jax
from score_jax.interop import hub
index = int(os.environ['JAX_PROCESS_ID'])
jax.distributed.initialize(
  num_processes=3, process_id=index, cluster_detection_method='deactivate'
)
# Two hosts; they share no cache.
host = 'ab'[index // 2]
hub.distributed.socket.gethostname = lambda: host
from huggingface_hub import constants
constants.HF_HUB_CACHE += host
path = hub.fetch('hf:google/tiny')
assert path.is_dir()
try:
  hub.fetch('hf:google/other')
except hub.HubError as error:
  assert 'no such model' in str(error), error
print(path, flush=True)
"""


@stand_in_hub.needs('huggingface_hub')
def test_one_process_of_each_host_downloads(server, tmp_path):
  environment = os.environ | {
    'HF_ENDPOINT': server.url,
    'HF_HOME': str(tmp_path / 'home'),
  }
  ended = process_group.run(
    '-c', PROCESS, processes=3, devices=1, environment=environment
  )
  first, second, other = [process.output.split()[-1] for process in ended]
  assert first == second != other
  assert len(server.downloads) == 2 * 5


@pytest.mark.parametrize(
  ('source', 'says'),
  [
    ('google/gemma-2-2b-it', 'no such directory.*: hf:google/gemma-2-2b-it$'),
    ('no/such/place', 'no such directory.*: hf:google/gemma-3-270m-it$'),
    ('hf:gemma', 'is not of the form hf:OWNER/MODEL or'),
    ('hf:google/gemma@', 'is not of the form'),
    ('kaggle:google/gemma-3', 'is not of the form kaggle:OWNER/MODEL/FRAMEW'),
    ('kaggle:google/gemma-3/flax/x/one', 'is not of the form'),
  ],
)
def test_what_is_no_name(source, says):
  with pytest.raises(hub.HubError, match=f'^{source}: .*{says}'):
    hub.fetch(source)


@pytest.mark.parametrize(
  ('source', 'client'),
  [(HF, 'huggingface_hub'), (KAGGLE + '/2', 'kagglehub')],
)
def test_a_missing_client_is_named(source, client, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(hub.HubError, match=f'pip install {client}$'):
    hub.fetch(source)


def test_local_directories(tmp_path):
  path = tmp_path / 'some-model'
  path.mkdir()
  assert hub.fetch(str(path)) == path
  assert hub.pinned(str(path)) == str(path)
  labels = [hub.label(name) for name in (str(path), HF, f'{HF}@main', KAGGLE)]
  assert labels == ['some-model', 'tiny', 'tiny', 'tiny-it']
