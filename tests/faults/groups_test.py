"""The faults that a run survives, by groups, and the tests that make them.

Paths are below tests/; `bash launch/check.sh --slow` runs the slow ones, too.
"""

import ast
import pathlib

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
GROUPS = {
  'killed in every phase, at every file operation, on 1 and 8 devices': (
    'faults/killed_test.py::test_killed_at_every_file_operation',
    'faults/prune_test.py::test_killed_at_every_operation_of_a_prune',
    'experiments/run/resume_test.py::test_killed_in_every_part',
    'experiments/run/resume_test.py::test_killed_while_saving',
    'experiments/run/resume_test.py::test_killed_at_a_random_step',
    'experiments/run/resume_test.py::test_killed_while_pretraining',
  ),
  'killed twice, and while resuming or forking': (
    'faults/killed_test.py::test_killed_at_every_file_operation_of_a_resume',
    'faults/fork_test.py::test_killed_at_every_file_operation_of_a_fork',
  ),
  'signals, once and twice, while saving and evaluating': (
    'faults/killed_test.py::test_signalled_at_every_file_operation',
    'experiments/run/resume_test.py::test_sigterm_within_steps',
    'experiments/run/resume_test.py::test_sigterm_while_evaluating',
    'io/stop_signals_test.py::test_two_signals_end_it_at_once',
  ),
  'one of several processes dies or fails': (
    'faults/two_processes_test.py::'
    'test_one_of_two_is_killed_at_every_file_operation',
    'heartbeat_test.py::test_the_first_process_is_lost',
    'heartbeat_test.py::test_the_second_process_is_lost',
    'experiments/run/processes_test.py::test_a_signal_to_one_process',
  ),
  'damaged, missing, foreign and other checkpoints and files': (
    'faults/damage_test.py::'
    'test_every_file_of_a_finished_run_damaged_in_every_way',
    'faults/damage_test.py::'
    'test_every_file_of_an_interrupted_run_damaged_in_every_way',
    'faults/damage_test.py::test_every_damaged_file_is_named',
    'checkpoints/checkpointing_test.py::'
    'test_a_damaged_file_never_changes_what_is_restored',
    'checkpoints/checkpointing_test.py::test_an_empty_directory_fools_nobody',
    'checkpoints/checkpointing_test.py::'
    'test_foreign_files_and_unfinished_saves',
    'checkpoints/checkpointing_test.py::test_a_newer_format_is_rejected',
    'checkpoints/checkpointing_test.py::'
    'test_no_other_takes_the_place_of_a_damaged_best',
  ),
  'full, read-only and removed directories': (
    'faults/refused_test.py::'
    'test_a_disk_that_is_full_from_every_file_operation_on',
    'faults/refused_test.py::'
    'test_a_refused_save_is_said_at_once_and_made_again',
    'faults/surroundings_test.py::'
    'test_a_moved_run_that_may_not_be_written_is_read',
    'faults/surroundings_test.py::test_a_run_whose_directory_goes_away_says_so',
    'io/written_files_test.py::test_lines_wait_for_a_disk_that_is_full',
    'io/metric_log_test.py::test_a_disk_that_takes_no_more',
    'experiments/run/disk_space_test.py::test_a_run_that_does_not_fit',
  ),
  'operations that fail, slow saves, two trainers': (
    'faults/refused_test.py::test_refused_once_at_every_file_operation',
    'faults/prune_test.py::test_refused_at_every_operation_of_a_prune',
    'checkpoints/checkpointing_test.py::'
    'test_background_saves_survive_donation',
    'experiments/run/run_directory_test.py::test_two_trainers',
  ),
  'other meshes and dtypes': (
    'checkpoints/checkpointing_test.py::test_restores_on_another_mesh',
    'checkpoints/checkpointing_test.py::'
    'test_another_model_is_rejected_and_nothing_set_aside',
  ),
  'the only verified checkpoint': (
    'checkpoints/checkpointing_test.py::'
    'test_a_save_that_reads_back_wrong_removes_nothing',
    'checkpoints/checkpointing_test.py::test_a_disk_that_takes_no_more',
  ),
  'loss, gradients, rewards and KL that are not finite; nothing to learn': (
    'faults/not_finite_test.py::test_replayed_elsewhere_and_gone_on_from',
    'training/rl_update_test.py::test_updates_that_are_not_finite_are_skipped',
    'training/sft_update_test.py::test_what_is_not_finite_is_skipped',
    'training/optimizers_test.py::'
    'test_what_is_not_finite_changes_nothing_but_counters',
    'checkpoints/checkpointing_test.py::test_non_finite_states_are_not_saved',
    'experiments/stages/stage_recorder_test.py::'
    'test_updates_without_an_attempt_to_learn_from_end_the_run',
    'experiments/stages/alarms_test.py::test_raised_once',
  ),
  'ratios and bonuses that overflow': (
    'algorithm/importance_test.py::'
    'test_a_token_that_the_sampler_hardly_knew_is_capped',
    'training/rl_update_test.py::test_updates_that_are_not_finite_are_skipped',
  ),
  'changed, malformed and missing data': (
    'experiments/run/run_directory_test.py::test_other_data_is_rejected',
    'tasks/records_test.py::test_malformed_rows_are_named',
    'tasks/records_test.py::test_ids_are_unique',
    'tasks/batches_test.py::test_a_step_needs_no_step_before_it',
    'tasks/batches_test.py::test_no_problems_is_an_error',
    'experiments/run/building_test.py::'
    'test_problems_with_long_prompts_are_left_out',
    'grading/math_grading_test.py::'
    'test_references_that_cannot_be_read_are_left_out_loudly',
  ),
  'grader processes that die, hang and lie': (
    'faults/rewards_test.py::test_failures_are_left_out',
    'faults/rewards_test.py::test_a_function_that_hangs_is_left_out',
    'grading/worker_pool_test.py::test_killed_workers_change_no_verdict',
    'grading/worker_pool_test.py::'
    'test_a_stopped_worker_is_replaced_and_its_job_answered',
    'grading/worker_pool_test.py::'
    'test_a_job_that_always_loses_its_worker_fails_and_others_do_not',
    'grading/worker_pool_test.py::test_workers_that_do_not_start_are_an_error',
    'grading/worker_pool_test.py::test_workers_end_with_their_parent',
    'grading/user_rewards_test.py::test_one_function',
  ),
  'answers that cannot be computed': (
    'grading/math_grading_test.py::'
    'test_pathological_answers_hold_no_worker',
    'grading/answer_equality_test.py::'
    'test_what_cannot_be_computed_is_rejected_before',
  ),
  'hostile programs': (
    'grading/sandbox/hostile_test.py::test_hostile_program',
    'grading/sandbox/hostile_test.py::test_mixed_batch_leaves_nothing_behind',
  ),
  'a sandbox that is missing, leaks or goes away': (
    'grading/sandbox/probe_test.py::'
    'test_probe_finds_the_leaks_of_no_sandbox',
    'grading/code_grading_test.py::'
    'test_a_sandbox_that_disappears_leaves_attempts_ungraded',
    'experiments/doctor_test.py::test_a_machine_without_a_sandbox',
  ),
  'trackers and hubs that fail': (
    'io/metric_log_test.py::test_tensorboard_cannot_be_opened',
    'interop/hub_test.py::'
    'test_without_a_connection_what_was_downloaded_is_found',
    'tasks/downloads_test.py::test_the_second_address_stands_in_for_the_first',
  ),
  'clocks, limits of open files, homes, temporary directories, locales': (
    'faults/surroundings_test.py::test_a_poor_machine_makes_the_same_run',
    'faults/surroundings_test.py::'
    'test_a_path_that_the_locale_cannot_name_damages_nothing',
  ),
  'devices without memory left': (
    'experiments/run/out_of_memory_test.py::'
    'test_an_allocation_that_is_too_large_names_flags',
  ),
  'what must not depend on anything else': (
    'experiments/train_test.py::test_stage_by_stage_is_all_at_once',
    'experiments/train_test.py::test_reporting_does_not_change_training',
    'rollout/determinism_test.py::'
    'test_the_same_program_repeats_itself_bit_for_bit',
    'grading/worker_pool_test.py::test_answers_come_in_order',
    'experiments/run/compilation_cache_test.py::'
    'test_a_run_that_reads_its_programs_is_the_run_that_compiled',
  ),
}  # fmt: skip


def test_there_are_twenty_groups():
  assert len(GROUPS) == 20


@pytest.mark.parametrize('fault', GROUPS)
def test_every_test_exists(fault):
  for each in GROUPS[fault]:
    name, _, function = each.partition('::')
    tree = ast.parse((TESTS / name).read_text())
    assert function in {getattr(node, 'name', '') for node in tree.body}, each
