"""TRL's GRPO step without its generation. Needs requirements-peers.txt.

The trainer's own reference pass, loss, backward and metrics on given sequences,
then its clipping and its optimizer.
"""

import sys
import tempfile

import datasets
import tokenizers
import torch
import transformers
import trl

from experiments.benchmarks import serving, workload
from experiments.benchmarks.baselines import hugging_face


def trainer_of(work: workload.Workload, folder: str) -> trl.GRPOTrainer:
  """A trainer with the workload's model as policy and as reference."""
  hugging_face.model(work).save_pretrained(folder)
  words = {str(i): i for i in range(work.vocab)}
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(
      tokenizers.models.WordLevel(words, unk_token='2')
    ),
    pad_token=str(workload.PAD),
    eos_token=str(workload.STOP),
  )
  return trl.GRPOTrainer(
    model=folder,
    reward_funcs=lambda completions, **_: [0.0] * len(completions),
    args=trl.GRPOConfig(
      output_dir=folder,
      per_device_train_batch_size=work.rows,
      num_generations=work.samples,
      max_completion_length=work.length - work.prompt,
      beta=0.01,
      learning_rate=1e-6,
      gradient_checkpointing=False,
      bf16=hugging_face.DEVICE != 'cpu',
      use_cpu=hugging_face.DEVICE == 'cpu',
      report_to='none',
      model_init_kwargs={
        'dtype': 'float32',
        # Soft-caps need it.
        'attn_implementation': 'sdpa' if work.architecture else 'eager',
      },
    ),
    train_dataset=datasets.Dataset.from_dict({'prompt': ['7'] * work.rows}),
    processing_class=tokenizer,
  )


def inputs_of(work: workload.Workload) -> dict[str, torch.Tensor]:
  """Inputs of a step, as the trainer's generation would return them."""
  tokens, turn = (torch.tensor(x, dtype=torch.long) for x in work.episodes())
  prompt, completion = tokens.split(
    [work.prompt, work.length - work.prompt], dim=1
  )
  sampled = (turn[:, work.prompt :] > 0).long()
  inputs = {
    'prompt_ids': prompt,
    'prompt_mask': torch.ones_like(prompt),
    'completion_ids': completion,
    'completion_mask': (completion != workload.PAD).long(),
    'tool_mask': sampled,  # given tokens carry no loss
    'advantages': torch.ones(work.rows),
    'num_items_in_batch': sampled.sum(),
  }
  return {name: x.to(hugging_face.DEVICE) for name, x in inputs.items()}


def update(work: workload.Workload):
  """One step of the trainer."""
  trainer = trainer_of(work, tempfile.mkdtemp())
  inputs = inputs_of(work)
  ids = torch.cat([inputs['prompt_ids'], inputs['completion_ids']], dim=1)
  mask = torch.cat([inputs['prompt_mask'], inputs['completion_mask']], dim=1)
  trainer.current_gradient_accumulation_steps = 1
  trainer.create_optimizer()
  trainer.model.train()

  def prepare(_):
    with torch.no_grad():
      logprobs, *_ = trainer._get_per_token_logps_and_entropies(
        trainer.ref_model, ids, mask, inputs['completion_ids'].shape[1]
      )
    return inputs | {'ref_per_token_logps': logprobs}

  trainer._prepare_inputs = prepare

  def run():
    trainer.training_step(trainer.model, inputs, None)
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
    trainer.optimizer.step()
    trainer.model.zero_grad()
    hugging_face.finish()

  return run


if __name__ == '__main__':
  torch.set_num_threads(1)
  job = workload.Workload.from_json(sys.argv[2])
  serving.serve(lambda: update(job), hugging_face.device_peak)
