"""Settings as records: flat names, the way to JSON and back."""

import ast
import dataclasses
import itertools
import json
import pathlib

import pytest

from experiments.config import schema


def test_flat_names_are_flags():
  flat = schema.flatten(schema.Settings())
  assert flat['model.kv_heads'] == 4
  assert schema.flag('model.kv_heads') == '--model.kv-heads'
  assert schema.flag('beta1') == '--beta1'


def test_through_json_and_back():
  settings = schema.Settings(
    alpha=3.0, micro_batch=4, model=schema.Model(width=32)
  )
  record = json.loads(json.dumps(dataclasses.asdict(settings)))
  assert schema.from_record(record) == settings


def test_a_record_of_another_version_is_refused():
  record = dataclasses.asdict(schema.Settings()) | {'gamma': 1}
  with pytest.raises(ValueError, match='gamma'):
    schema.from_record(record)


def test_free_settings_exist():
  names = set(schema.flatten(schema.Settings()))
  assert names >= schema.FREE


def test_every_field_has_a_help_text():
  source = pathlib.Path(schema.__file__).read_text()
  for node in ast.parse(source).body:
    if not isinstance(node, ast.ClassDef):
      continue
    for field, after in itertools.pairwise([*node.body, None]):
      if not isinstance(field, ast.AnnAssign):
        continue
      # Nested records have their own class's docstring instead.
      is_record = isinstance(field.value, ast.Call)
      is_text = isinstance(getattr(after, 'value', None), ast.Constant)
      assert is_record or (is_text and isinstance(after, ast.Expr)), (
        f'{node.name}.{field.target.id} has no help text'
      )


def test_rows_and_default_directory():
  settings = schema.Settings(problems_per_step=3, samples_per_problem=5)
  assert settings.batch_size == 15
  assert settings.directory == pathlib.Path('runs/tiny')
