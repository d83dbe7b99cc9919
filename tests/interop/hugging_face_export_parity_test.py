"""What transformers makes of our exports: logits, ids, templates.

Needs the `parity` extra; hugging_face_export_test.py does without.
"""

import json

import numpy as np
import pytest

from score_jax.interop import hugging_face_export
from score_jax.models import chat, tokenization
from tests.support import exports, parity_table

_REASON = 'is missing: install the parity extra'
torch = pytest.importorskip('torch', reason=f'torch {_REASON}')
transformers = pytest.importorskip(
  'transformers', reason=f'transformers {_REASON}'
)

pytestmark = pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::FutureWarning'
)
QUESTION, INSTRUCTION = '  What is 12 + 7? \n\n', 'Look again.\n'
TEXTS = [
  'What is 12 + 7?',
  '  two spaces, and  two inside ',
  'line\n\nbreaks\n\n\n\tand tabs',
  'é, 数, \U0001f600',
  '<start_of_turn>user\n19<end_of_turn>\n',
  'a <unused3><mask> and <unused3> ',
  '',
]


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """Exports a model in a style once; gives the model and the directory."""
  made = {}

  def export(name, style='gemma'):
    if (name, style) not in made:
      model = exports.make(name)
      made[name, style] = (
        model,
        model.export(
          tmp_path_factory.mktemp(name) / style,
          chat_style=style,
          padded_vocab=model.config.vocab_size + 7,
        ),
      )
    return made[name, style]

  return export


def _load(directory, **options):
  return transformers.AutoModelForCausalLM.from_pretrained(
    directory, attn_implementation='eager', dtype=torch.float32, **options
  )


def _logits(theirs, tokens, vocab_size):
  with torch.no_grad():
    found = theirs(torch.from_numpy(np.asarray(tokens, np.int64))).logits
  return found.numpy()[..., :vocab_size]


@pytest.mark.parametrize('name', exports.NAMES)
def test_logits(name, exported):
  model, directory = exported(name)
  theirs, report = _load(directory, output_loading_info=True)
  assert not any(report[key] for key in report)  # nothing missing or extra
  tokens = parity_table.tokens(3, 40)
  expected = parity_table.logits(model.config, model.params, tokens)
  found = _logits(theirs, tokens, model.config.vocab_size)
  assert expected.std() > 0.1  # else the comparison would mean little
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


# What transformers 5 reads, and what transformers 4 read, without the other's.
SPELLINGS = {
  '5': ('rope_theta', 'rope_scaling', 'rope_local_base_freq', 'torch_dtype')
  + ('sliding_window_pattern',),
  '4': ('rope_parameters', 'dtype', 'layer_types'),
}


@pytest.mark.skipif(
  int(transformers.__version__.split('.')[0]) < 5,
  reason='transformers 4 reads one spelling only',
)
@pytest.mark.parametrize('spelling', SPELLINGS)
@pytest.mark.parametrize('name', exports.NAMES)
def test_each_spelling_suffices(name, spelling, exported, tmp_path):
  """By transformers 5, which still understands the older one."""
  _, directory = exported(name)
  file = json.loads((directory / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(
    json.dumps({k: v for k, v in file.items() if k not in SPELLINGS[spelling]})
  )
  found, whole = (
    transformers.AutoConfig.from_pretrained(path)
    for path in (tmp_path, directory)
  )
  for key in ('rope_parameters', 'layer_types', 'vocab_size', 'eos_token_id'):
    assert getattr(found, key, None) == getattr(whole, key, None)


@pytest.mark.parametrize('style', ['gemma', 'plain'])
@pytest.mark.parametrize('name', ['gemma2', 'gemma3'])
def test_ids(name, style, exported):
  model, directory = exported(name, style)
  ours = tokenization.Tokenizer(model.tokenizer)
  theirs = transformers.AutoTokenizer.from_pretrained(directory)
  for text in TEXTS:
    expected = ours.encode(text)
    assert theirs.encode(text) == [ours.bos_id, *expected]
    assert theirs.encode(text, add_special_tokens=False) == expected
    if not text.startswith('<'):
      assert theirs.decode(expected) == text
  ids = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
  assert ids == (ours.bos_id, ours.eos_id, ours.pad_id)


@pytest.mark.parametrize('style', ['gemma', 'plain'])
@pytest.mark.parametrize('name', ['gemma2', 'gemma3'])
def test_chat_template(name, style, exported):
  """A served conversation has the ids that training had."""
  model, directory = exported(name, style)
  form = chat.ChatFormat(tokenization.Tokenizer(model.tokenizer), style)
  theirs = transformers.AutoTokenizer.from_pretrained(directory)
  if style == 'plain':
    assert theirs.chat_template is None
    template = directory / hugging_face_export.PLAIN_TEMPLATE
    theirs.chat_template = template.read_text()
  messages = [{'role': 'user', 'content': QUESTION}]
  arguments = {'add_generation_prompt': True, 'return_dict': False}
  assert theirs.apply_chat_template(messages, **arguments) == form.prompt(
    QUESTION
  )
  messages += [
    {'role': 'assistant', 'content': 'The sum is 18.'},
    {'role': 'user', 'content': INSTRUCTION},
  ]
  assert theirs.apply_chat_template(messages, **arguments) == [
    *form.prompt(QUESTION),
    *form.attempt_ids('The sum is 18.'),
    *form.after_stop(INSTRUCTION),
  ]


def test_generation_stops(exported):
  _, directory = exported('gemma3')
  config = transformers.GenerationConfig.from_pretrained(directory)
  assert config.eos_token_id == [1, 106]
  assert (config.bos_token_id, config.pad_token_id) == (2, 0)
