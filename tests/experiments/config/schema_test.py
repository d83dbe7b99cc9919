"""Settings as records: flat names, the way to JSON and back."""

import ast
import dataclasses
import itertools
import json
import pathlib
import typing

import pytest

from experiments.config import fields, groups, schema


def test_flat_names_are_flags():
  flat = fields.flatten(schema.Settings())
  assert flat['model.kv_heads'] == 4
  assert fields.flag('model.kv_heads') == '--model.kv-heads'
  assert fields.flag('beta1') == '--beta1'


def test_through_json_and_back():
  settings = schema.Settings(
    alpha=3.0, micro_batch=4, model=groups.Model(width=32)
  )
  record = json.loads(json.dumps(dataclasses.asdict(settings)))
  assert fields.from_record(schema.Settings, record) == settings


def test_a_record_of_another_version_is_rejected():
  record = dataclasses.asdict(schema.Settings()) | {'gamma': 1}
  with pytest.raises(ValueError, match='gamma'):
    fields.from_record(schema.Settings, record)


def test_every_setting_says_what_it_affects():
  levels = typing.get_args(fields.Affects)
  declarations = fields.declarations(schema.Settings)
  assert list(declarations) == list(fields.flatten(schema.Settings()))
  for name, declared in declarations.items():
    assert schema.affects(name) in levels, name
    assert declared.keys() <= {'affects', 'free', 'low', 'above', 'high'}
  assert schema.affects('alpha') == 'stage'
  assert schema.affects('model.width') == 'base'
  assert schema.affects('mesh.fsdp') == 'rounding'


def test_every_number_has_a_range():
  for name, value in fields.flatten(schema.Settings()).items():
    if isinstance(value, int | float) and not isinstance(value, bool):
      declared = fields.declarations(schema.Settings)[name]
      assert ('low' in declared) != ('above' in declared), name


def test_what_a_continued_run_may_change():
  assert schema.free() == {
    'checkpoint_every', 'compilation_cache', 'data_dir', 'dry_run',
    'eval_every', 'eval_problems', 'fork_from', 'libtpu_init_args', 'profile',
    'i_understand_model_code_runs_unsandboxed', 'init_from', 'length_buckets',
    'log_samples_every', 'mesh.data', 'mesh.fsdp', 'mesh.rollout_tensor',
    'mesh.tensor', 'micro_batch', 'offload_reference', 'preset',
    'processes.coordinator', 'processes.count', 'processes.index', 'remat',
    'reward_timeout', 'rollout.compactions', 'rollout.parts', 'rollout.rows',
    'rollout.segments', 'run_dir', 'sandbox', 'stage', 'tokenizer', 'workers',
  }  # fmt: skip


def test_every_field_has_a_help_text():
  paths = [pathlib.Path(module.__file__) for module in (schema, groups)]
  bodies = [ast.parse(path.read_text()).body for path in paths]
  for node in itertools.chain(*bodies):
    if not isinstance(node, ast.ClassDef):
      continue
    for field, after in itertools.pairwise([*node.body, None]):
      if not isinstance(field, ast.AnnAssign):
        continue
      # Groups have their own class's docstring instead.
      is_record = isinstance(field.value, ast.Call) and (
        ast.unparse(field.value.func) == ast.unparse(field.annotation)
      )
      is_text = isinstance(getattr(after, 'value', None), ast.Constant)
      assert is_record or (is_text and isinstance(after, ast.Expr)), (
        f'{node.name}.{field.target.id} has no help text'
      )


def test_rows_and_default_directory():
  settings = schema.Settings(problems_per_step=3, samples_per_problem=5)
  assert (settings.batch_size, settings.micro_batch_size) == (15, 15)
  parts = dataclasses.replace(settings, updates_per_rollout=3, micro_batch=9)
  assert (parts.update_size, parts.micro_batch_size) == (5, 5)
  assert settings.directory == 'runs/tiny'
