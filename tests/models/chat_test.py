"""Turn separators, as ids and as the published template's text."""

import pathlib

import pytest

from score_jax.models import chat, gemma
from tests.support import exports

QUESTION, INSTRUCTION = 'What is 12 + 7?', 'Look again.'
GENERATIONS = {
  'gemma-1-2': gemma.GEMMA_1_2_TOKENS,
  'gemma-3': gemma.GEMMA_3_TOKENS,
}

# The chat template that is published with Gemma 1, 2 and 3 in essence: turns,
# 'model' for the assistant, contents trimmed.
TEMPLATE = (
  '{{ bos_token }}{% for message in messages %}'
  "{% set role = 'model' if message['role'] == 'assistant' "
  "else message['role'] %}"
  "{{ '<start_of_turn>' + role + '\n' + (message['content'] | trim)"
  " + '<end_of_turn>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@pytest.fixture(scope='module', params=GENERATIONS)
def tokenizer(request):
  return exports.tokenizer(GENERATIONS[request.param])


def _special(tokenizer):
  start = tokenizer.piece_id('<start_of_turn>')
  end = tokenizer.piece_id('<end_of_turn>')
  return start, end, tokenizer.piece_id('\n')


def test_gemma_turns(tokenizer):
  """The table of turn separators, written out in ids."""
  start, end, newline = _special(tokenizer)
  assert (start, end) in {(106, 107), (105, 106)}
  encode = tokenizer.encode
  gemma_format = chat.ChatFormat(tokenizer, 'gemma')
  opening = [start, *encode('model'), newline]
  asked = [start, *encode('user'), newline, *encode(QUESTION), end, newline]
  again = [start, *encode('user'), newline, *encode(INSTRUCTION), end, newline]
  assert gemma_format.prompt(QUESTION) == [2, *asked, *opening]
  assert gemma_format.after_stop(INSTRUCTION) == [newline, *again, *opening]
  assert gemma_format.after_cut(INSTRUCTION) == [
    *(end, newline),
    *again,
    *opening,
  ]
  # Both stop tokens; the turn's own closes an attempt that was cut off.
  assert gemma_format.stop_ids == (end, 1)
  assert gemma_format.attempt_ids('19') == [*encode('19'), end]


def test_plain_turns(tokenizer):
  encode = tokenizer.encode
  plain = chat.ChatFormat(tokenizer, 'plain')
  assert plain.prompt(QUESTION) == [2, *encode(QUESTION + '\n')]
  assert plain.after_stop(INSTRUCTION) == encode(f'\n{INSTRUCTION}\n')
  assert plain.after_cut(INSTRUCTION) == [1, *encode(f'\n{INSTRUCTION}\n')]
  assert plain.stop_ids == (1,)


@pytest.mark.parametrize('style', ['plain', 'gemma'])
def test_turns_that_end_with_a_stop_text(tokenizer, style):
  """In a document it is a part's end; in a chat, the turn lacks its token."""
  form = chat.ChatFormat(tokenizer, style, ('7?', 'sum'))
  assert form.stop_text_closes_turn == (style == 'plain')
  assert form.attempt_ids(QUESTION) == tokenizer.encode(QUESTION)
  assert form.attempt_text(form.attempt_ids(QUESTION)) == 'What is 12 + '
  # Where there is none, as without stop texts.
  without = chat.ChatFormat(tokenizer, style)
  assert without.stop_table is None
  assert form.attempt_ids('19') == without.attempt_ids('19')
  assert form.stop_ids == without.stop_ids


@pytest.mark.parametrize('style', ['plain', 'gemma'])
def test_attempt_text(tokenizer, style):
  form = chat.ChatFormat(tokenizer, style)
  ids = tokenizer.encode('The sum is 19.')
  for stop in form.stop_ids:
    assert form.attempt_text([*ids, stop]) == 'The sum is 19.'
  assert form.attempt_text(ids) == 'The sum is 19.'
  assert form.attempt_text([form.stop_ids[0]]) == ''
  assert form.attempt_text([]) == ''


def test_gemma_needs_turn_tokens():
  with pytest.raises(ValueError, match='<start_of_turn>'):
    chat.ChatFormat(exports.tokenizer(pieces=320), 'gemma')


def _conversation(form, attempts):
  """Ids of question, attempt, instruction, attempt."""
  first, second = (form.attempt_ids(text) for text in attempts)
  return [
    *form.prompt(QUESTION),
    *first,
    *form.after_stop(INSTRUCTION),
    *second,
  ]


def test_append_only_ids_are_those_of_the_whole_text(tokenizer):
  form = chat.ChatFormat(tokenizer, 'gemma')
  text = (
    f'<start_of_turn>user\n{QUESTION}<end_of_turn>\n'
    '<start_of_turn>model\nThe sum is 18.<end_of_turn>\n'
    f'<start_of_turn>user\n{INSTRUCTION}<end_of_turn>\n'
    '<start_of_turn>model\n19<end_of_turn>'
  )
  ids = _conversation(form, ('The sum is 18.', '19'))
  assert ids == [2, *tokenizer.encode(text)]
  # Where they could differ: an attempt that begins with a line break is kept
  # as it was sampled, while the whole text has one piece of two breaks.
  ids = _conversation(form, ('\n18', '19'))
  whole = [2, *tokenizer.encode(text.replace('The sum is 18.', '\n18'))]
  assert len(ids) == len(whole) + 1
  instruction = len(tokenizer.encode(INSTRUCTION))
  assert ids[-instruction:] == whole[-instruction:]


@pytest.mark.filterwarnings(
  'ignore::DeprecationWarning', 'ignore::FutureWarning'
)
def test_same_as_transformers(tokenizer, tmp_path):
  """`apply_chat_template` of transformers gives our text and our ids."""
  transformers = pytest.importorskip(
    'transformers',
    reason='transformers is missing: install the parity extra',
  )
  _write_for_transformers(tokenizer, tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  form = chat.ChatFormat(tokenizer, 'gemma')
  user, model = (
    lambda text: {'role': 'user', 'content': text},
    lambda text: {'role': 'assistant', 'content': text},
  )
  messages = [user(QUESTION), model('The sum is 18.'), user(INSTRUCTION)]

  def render(messages):
    ids = theirs.apply_chat_template(
      messages, add_generation_prompt=True, return_dict=False
    )
    text = theirs.apply_chat_template(
      messages, add_generation_prompt=True, tokenize=False
    )
    return ids, text

  ids, text = render(messages[:1])
  prompt = form.prompt(QUESTION)
  assert prompt == ids
  assert text == '<bos>' + tokenizer.decode(prompt)
  ids, text = render(messages)
  ours = [
    *prompt,
    *form.attempt_ids('The sum is 18.'),
    *form.after_stop(INSTRUCTION),
  ]
  assert ours == ids
  assert text == '<bos>' + tokenizer.decode(ours)
  # Surrounding whitespace of a message is the template's business.
  assert render([user(f'\n {QUESTION} \n')])[0] == prompt
  assert form.prompt(f'\n {QUESTION} \n') == prompt


def _write_for_transformers(tokenizer, directory: pathlib.Path):
  (directory / 'tokenizer.model').write_bytes(tokenizer.path.read_bytes())
  (directory / 'tokenizer_config.json').write_text(
    '{"tokenizer_class": "GemmaTokenizer"}'
  )
  (directory / 'chat_template.jinja').write_text(TEMPLATE)
