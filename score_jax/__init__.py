"""SCoRe in JAX: the names for those who write a loop of their own.

    import score_jax as sj

A name's module is imported when the name is first used: grader processes
import parts of this package, and must not start jax. Examples in docstrings
use the variables of README's section "As a library", and `np` for numpy.
"""

import importlib

# Public name -> (module of this package, name there).
_PUBLIC = {
  # On the host: what is asked, what was written, how it was graded.
  'Problem': ('types', 'Problem'),
  'Attempt': ('types', 'Attempt'),
  'Verdict': ('types', 'Verdict'),
  'Task': ('types', 'Task'),
  # On the device: episodes, the data of an update, what an update changes.
  'Trajectory': ('arrays', 'Trajectory'),
  'TrainBatch': ('arrays', 'TrainBatch'),
  'TrainState': ('arrays', 'TrainState'),
  # Tasks and grading.
  'load_task': ('tasks.registry', 'load_task'),
  'FunctionGrader': ('grading.user_rewards', 'FunctionGrader'),
  'grade_attempts': ('evaluation.evaluate', 'grade_attempts'),
  'score_arrays': ('evaluation.evaluate', 'score_arrays'),
  # Models: a tokenizer and parameters of one's own.
  'Tokenizer': ('models.tokenization', 'Tokenizer'),
  'train_tokenizer': ('models.tokenization', 'train'),
  'ChatFormat': ('models.chat', 'ChatFormat'),
  'ModelConfig': ('models.model_config', 'ModelConfig'),
  'init_params': ('models.transformer', 'init_params'),
  'inference_params': ('models.inference', 'inference_params'),
  # Checkpoints of others: Hugging Face directories in and out, Orbax in.
  'export_checkpoint': ('interop.hugging_face_export', 'export'),
  'checkpoint_config': ('interop.checkpoint_formats', 'read_config'),
  'load_checkpoint': ('interop.checkpoint_formats', 'load'),
  # Episodes, and the random numbers of all that is drawn.
  'EpisodeSampler': ('rollout.episodes', 'EpisodeSampler'),
  'step_key': ('rollout.randomness', 'stream'),
  # The method.
  'stage_one': ('algorithm.stage_coefficients', 'stage_one'),
  'stage_two': ('algorithm.stage_coefficients', 'stage_two'),
  'score_stages': ('algorithm.stage_coefficients', 'score_stages'),
  'shape_rewards': ('algorithm.rewards', 'shape_rewards'),
  'leave_one_out': ('algorithm.advantages', 'leave_one_out'),
  'exact_kl': ('algorithm.kl_divergence', 'exact_kl'),
  'score_loss': ('algorithm.losses', 'score_loss'),
  # Training and evaluation.
  'make_optimizer': ('training.optimizers', 'make_optimizer'),
  'init_state': ('training.train_state', 'init_state'),
  'make_train_step': ('training.rl_update', 'make_train_step'),
  'Checkpoints': ('checkpoints.checkpointing', 'Checkpoints'),
  'evaluate': ('evaluation.evaluate', 'evaluate'),
}
__all__ = list(_PUBLIC)


def __getattr__(name):
  if name not in _PUBLIC:
    # `from score_jax import MODULE` asks here too before it imports one.
    import difflib

    close = difflib.get_close_matches(name, _PUBLIC, n=3)
    hint = f': did you mean {" or ".join(close)}?' if close else ''
    raise AttributeError(f'score_jax has no {name}{hint}')
  module, attribute = _PUBLIC[name]
  value = getattr(importlib.import_module(f'{__name__}.{module}'), attribute)
  globals()[name] = value
  return value


def __dir__():
  return sorted(__all__)
