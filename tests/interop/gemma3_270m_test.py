"""Gemma 3 270M's own weights against transformers, on real text.

Slow, 4 minutes of CPU. Needs the `parity` extra and the weights, as
`bash launch/gemma3_270m.sh` makes them.
"""

import dataclasses
import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import convert
from score_jax import types
from score_jax.grading import direct_grading
from score_jax.interop import (
  checkpoint_formats,
  gguf_import,
  hugging_face_weights,
  param_builder,
)
from score_jax.models import chat, inference, tokenization, transformer
from score_jax.rollout import episodes, randomness
from tests.support import published_weights

_REASON = 'is missing: install the parity extra'
torch = pytest.importorskip('torch', reason=f'torch {_REASON}')
transformers = pytest.importorskip(
  'transformers', reason=f'transformers {_REASON}'
)

pytestmark = [
  pytest.mark.slow,
  pytest.mark.filterwarnings(
    'ignore::DeprecationWarning',
    'ignore::FutureWarning',
    'ignore::UserWarning',
  ),
]
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Longer than the window of the local layers, 512.
LENGTH = 600
SHOWN = [*range(40), *range(500, LENGTH)]
PAGE = """\
The quick brown fox, "naïve" café-goers and Zoë's 3,141.59 € don't agree.
Die Straße nach Köln; l'été à l'œuvre; ¿Cuántos años?; Привет, мир; שלום; مرحبا
数学は楽しい。 我们一起学习。 한국어 문장입니다. ไทย हिन्दी தமிழ்

def f(x: int) -> str:
    # four spaces, then eight
        return f"{x:>08b}\\t{'é'}"   # trailing
\tif a[0]!=b['k']:\n\t\tprint(1e-6, 0x1F, 3//2)


x = 1234567890; y = -0.5; z = 12 345 6789  1000000 007
<table><tr><td>a</td></tr></table> <unused3> <start_of_turn>user <mask>
😀👍🏽👩‍👩‍👧‍👦 🇩🇪 ½ ² ∑ ∞ \u00a0nbsp \u200bzero \ufeff \U0001fae8 \x07
   leading, and trailing   \n\n\n\n"""


@pytest.fixture(scope='module')
def directory():
  return published_weights.directory()


@pytest.fixture(scope='module')
def ours(directory):
  """Model, float32 parameters and tokenizer, by our reader."""
  tokenizer = tokenization.Tokenizer(directory / 'tokenizer.model')
  config = checkpoint_formats.read_config(directory, tokenizer=tokenizer)
  # transformers does not round it where weights are float32.
  config = dataclasses.replace(config, round_embedding_scale=False)
  return config, checkpoint_formats.load(directory, config), tokenizer


@pytest.fixture(scope='module')
def theirs(directory):
  return transformers.AutoModelForCausalLM.from_pretrained(
    directory, attn_implementation='eager', dtype=torch.float32
  ).eval()


@functools.cache
def english() -> str:
  # Without its layout: transformers splits runs of more than 31 spaces, the
  # longest piece of spaces, elsewhere than sentencepiece.
  return ' '.join((ROOT / 'LICENSE').read_text().split())


def test_logits(ours, theirs):
  """At both ends of an English text longer than the window."""
  config, params, tokenizer = ours
  ids = np.array([[tokenizer.bos_id, *tokenizer.encode(english())][:LENGTH]])
  hidden, _ = transformer.forward(
    config, params, jnp.asarray(ids), jnp.arange(LENGTH)[None]
  )
  shown = hidden[:, np.array(SHOWN)]
  found = np.asarray(transformer.unembed(config, params['embedding'], shown))
  with torch.no_grad():
    expected = theirs(
      torch.from_numpy(ids), logits_to_keep=torch.tensor(SHOWN)
    ).logits.numpy()
  assert expected.std() > 3
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
  np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
  # It has learnt English: chance is 12.5 nats a token.
  logprobs = torch.log_softmax(torch.from_numpy(found[0, :39]), dim=-1)
  loss = -logprobs[np.arange(39), ids[0, 1:40]].mean().item()
  assert loss < 3


def test_greedy_text(ours, theirs):
  """What our engine writes is what transformers writes."""
  config, params, tokenizer = ours
  questions = [
    'Q: What is the capital of France?\nA:',
    'The three primary colours are',
    'def fibonacci(n):',
  ]
  problems = [types.Problem(q, 'x', q, '') for q in questions]
  task = types.Task(
    'x', problems, problems, lambda p: p.question, 'Again.',
    lambda: direct_grading.DirectGrader(direct_grading.grade_text),
  )  # fmt: skip
  form = chat.ChatFormat(tokenizer)
  sampler = episodes.EpisodeSampler(
    config, form, task, max_new_tokens=(24,), buckets=(32,), dtype=jnp.float32
  )
  trajectory = sampler.sample(
    inference.inference_params(params),
    problems,
    randomness.stream(0, 'evaluate', 'test', 0),
    greedy=True,
  )
  texts = [attempts[0].text for attempts in sampler.attempts(trajectory)]
  for question, text in zip(questions, texts):
    prompt = form.prompt(question)
    with torch.no_grad():
      sequence = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=24,
        do_sample=False,
      )[0]
    assert text == form.attempt_text(sequence[len(prompt) :].tolist())
    assert len(text) > 10


def test_token_ids(ours, directory):
  """On a page of text, code, digits and emoji, line by line and as one."""
  tokenizer = ours[2]
  gguf_file = published_weights.gguf_file()
  for theirs in (
    transformers.AutoTokenizer.from_pretrained(directory),
    # By way of the vocabulary as the GGUF file has it.
    transformers.AutoTokenizer.from_pretrained(
      gguf_file.parent, gguf_file=gguf_file.name
    ),
  ):
    for text in (PAGE, *PAGE.splitlines(keepends=True), english()):
      found = tokenizer.encode(text)
      assert found == theirs.encode(text, add_special_tokens=False), text
      assert tokenizer.decode(found) == text


def test_dequantized_as_transformers_does(ours):
  """Every tensor of the GGUF file, to the bit."""
  pytest.importorskip('accelerate', reason=f'accelerate {_REASON}')
  path = published_weights.gguf_file()
  config = gguf_import.read_config(path)
  params = gguf_import.load(path, config)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32
  ).state_dict()
  rows = config.vocab_size
  shapes = hugging_face_weights.shapes(config, rows)
  assert set(shapes) == set(theirs) - {'lm_head.weight'}
  for name in shapes:
    blocks = hugging_face_weights.blocks(
      config, params, name, dtype=np.float32, rows=rows
    )
    np.testing.assert_array_equal(
      np.concatenate(list(blocks)), theirs[name].numpy(), err_msg=name
    )


def test_round_trip(directory, tmp_path):
  """Read and exported again, the weights are the same file."""
  target = tmp_path / 'again'
  assert convert.main([f'--from={directory}', f'--to={target}']) == 0
  for name in ('model.safetensors', 'tokenizer.model', 'config.json'):
    assert (target / name).read_bytes() == (directory / name).read_bytes()
  names = {path.name for path in checkpoint_formats.notices(directory)}
  assert names == {path.name for path in checkpoint_formats.notices(target)}
  assert names == {'NOTICE.md', 'GEMMA_TERMS.html'}
  assert param_builder.param_shapes(checkpoint_formats.read_config(target))
