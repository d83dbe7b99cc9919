"""What the doctor finds with a sandbox, and where something is missing."""

import jax
import pytest

from experiments import benchmark, doctor
from experiments.run import layouts, run_directory
from score_jax.grading.sandbox import probe


def test_a_machine_with_a_sandbox(capsys):
  assert doctor.main(doctor.Settings(devices=True)) == 0
  out = capsys.readouterr().out
  assert 'cpu' in out
  assert 'ok   reaches no network' in out
  assert 'a right program is correct' in out
  assert 'x^2+2x+1 is correct' in out


def test_a_machine_without_a_sandbox(monkeypatch, capsys):
  leak = probe.Line('reaches no network', False, 'connected')
  monkeypatch.setattr(probe, 'probe', lambda sandbox: [leak])
  monkeypatch.setattr(doctor, '_report_math', lambda: None)
  probe.choose.cache_clear()
  try:
    assert doctor.main(doctor.Settings(devices=False)) == 2
  finally:
    probe.choose.cache_clear()
  out = capsys.readouterr().out
  assert 'LEAK reaches no network: connected' in out
  assert 'bubblewrap' in out


def test_a_machine_without_the_accelerator(monkeypatch, capsys):
  held = probe.Line('reaches no network', True, '')
  monkeypatch.setattr(probe, 'probe', lambda sandbox: [held])
  monkeypatch.setattr(doctor, '_report_math', lambda: None)
  # Started, so that jax has a CPU to go on with, and would.
  jax.devices()
  jax.config.update('jax_platforms', 'cuda,cpu')
  try:
    assert doctor.main(doctor.Settings()) == 3
    with pytest.raises(run_directory.RunError, match='JAX_PLATFORMS=cpu'):
      layouts.devices()
  finally:
    jax.config.update('jax_platforms', 'cpu')
  *_, last = capsys.readouterr().out.splitlines()
  assert 'nvidia-smi' in last


def test_benchmarks_are_listed(capsys):
  assert benchmark.main([]) == 2
  assert benchmark.main(['--help']) == 0
  assert 'reward' in capsys.readouterr().out


@pytest.mark.slow
def test_reward_benchmark_in_small(tmp_path, capsys):
  output = tmp_path / 'results.json'
  flags = '--workers 1 --math-jobs 16 --code-jobs 2 --batch 20'
  assert (
    benchmark.main(['reward', *flags.split(), '--output', str(output)]) == 0
  )
  printed = capsys.readouterr().out
  assert '5 % pathological' in printed
  assert 'bound' in printed
  assert output.exists()
