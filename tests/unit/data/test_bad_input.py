"""What a user gets for input that cannot be used: the exact words, for every case below.

A bad row names file, line and field and is set aside; the rows beside it come through. A bad setting
ends the job before anything starts and names the key.
"""

import pytest
from configured import checked

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.prompts import PromptsConfig
from avr.data import tables
from avr.data.prompt_sets import ingest
from avr.recipes.stage1 import Stage1Config

ROWS = [
    (
        b"{broken",
        "not a JSON line: Expecting property name enclosed in double quotes at character 1 of the line",
    ),
    (b'{"prompt": "a"', "not a JSON line: Expecting ',' delimiter at character 14 of the line"),
    (
        b'{"prompt": "a",}',
        "not a JSON line: Expecting property name enclosed in double quotes at character 15 of the line",
    ),
    (
        b"{'prompt': 'a'}",
        "not a JSON line: Expecting property name enclosed in double quotes at character 1 of the line",
    ),
    (b"prompt", "not a JSON line: Expecting value at character 0 of the line"),
    (b'"text"', "the row is a text, not an object with fields"),
    (b"3", "the row is a number, not an object with fields"),
    (b"null", "the row is null, not an object with fields"),
    (b"[]", "the row is a list, not an object with fields"),
    (b"{}", "no field 'prompt'; the row has no fields"),
    (b'[{"prompt": "x"}]', "the row is a list, not an object with fields"),
    (b'{"prompt": null}', "field 'prompt' is null, neither text nor messages"),
    (b'{"prompt": 3}', "field 'prompt' is a number, neither text nor messages"),
    (b'{"prompt": true}', "field 'prompt' is true or false, neither text nor messages"),
    (b'{"prompt": 1.5}', "field 'prompt' is a number, neither text nor messages"),
    (b'{"prompt": {}}', "field 'prompt' is an object, neither text nor messages"),
    (b'{"prompt": []}', "field 'prompt' is an empty list, neither text nor messages"),
    (b'{"prompt": ""}', "field 'prompt' is empty"),
    (b'{"prompt": "  \\n\\t"}', "field 'prompt' is empty"),
    (b'{"Prompt": "x"}', "no field 'prompt'; the row has Prompt"),
    (b'{"instruction": "x", "output": "y"}', "no field 'prompt'; the row has instruction, output"),
    (b'{"prompt": ["x"]}', "field 'prompt', turn 0 is a text, not a role and a content"),
    (b'{"prompt": [3]}', "field 'prompt', turn 0 is a number, not a role and a content"),
    (b'{"prompt": [null]}', "field 'prompt', turn 0 is null, not a role and a content"),
    (
        b'{"prompt": [{}]}',
        "field 'prompt', turn 0: role is None, expected one of system, user, assistant",
    ),
    (b'{"prompt": [{"role": "user"}]}', "field 'prompt', turn 0: content is null, not text"),
    (
        b'{"prompt": [{"content": "x"}]}',
        "field 'prompt', turn 0: role is None, expected one of system, user, assistant",
    ),
    (
        b'{"prompt": [{"role": "user", "content": null}]}',
        "field 'prompt', turn 0: content is null, not text",
    ),
    (
        b'{"prompt": [{"role": "user", "content": 3}]}',
        "field 'prompt', turn 0: content is a number, not text",
    ),
    (b'{"prompt": [{"role": "user", "content": ""}]}', "field 'prompt', turn 0: content is empty"),
    (
        b'{"prompt": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}',
        "field 'prompt', turn 0: content is a list, not text",
    ),
    (
        b'{"prompt": [{"role": "bot", "content": "x"}]}',
        "field 'prompt', turn 0: role is 'bot', expected one of system, user, assistant",
    ),
    (
        b'{"prompt": [{"role": "User", "content": "x"}]}',
        "field 'prompt', turn 0: role is 'User', expected one of system, user, assistant",
    ),
    (
        b'{"prompt": [{"role": 3, "content": "x"}]}',
        "field 'prompt', turn 0: role is 3, expected one of system, user, assistant",
    ),
    (
        b'{"prompt": [{"role": "assistant", "content": "x"}]}',
        "field 'prompt', turn 0 is the assistant's, expected the system or the user's",
    ),
    (
        b'{"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
        "field 'prompt' ends with the assistant's turn",
    ),
    (
        b'{"prompt": [{"role": "system", "content": "x"}]}',
        "field 'prompt' ends with the system's turn",
    ),
    (
        b'{"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
        "field 'prompt', turn 1 is the user's, expected the assistant's",
    ),
    (
        b'{"prompt": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}]}',
        "field 'prompt', turn 1 is the system's, expected the assistant's",
    ),
    (
        b'{"prompt": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}',
        "field 'prompt', turn 0 is the assistant's, expected the system or the user's",
    ),
    (
        b'{"prompt": [{"role": "tool", "content": "a"}]}',
        "field 'prompt', turn 0: role is 'tool', expected one of system, user, assistant",
    ),
    (b'{"prompt": "half \\ud800"}', "field 'prompt' holds half a surrogate pair at character 5"),
    (b'{"prompt": "\xff\xfe"}', "not UTF-8: invalid start byte at byte 12 of the line"),
    (b"\xff\xfe{\x00", "not UTF-8: invalid start byte at byte 0 of the line"),
    (b'{"prompt": NaN}', "field 'prompt' is a number, neither text nor messages"),
    (b'{"prompt": Infinity}', "field 'prompt' is a number, neither text nor messages"),
    (b'{"prompt": "x", "prompt": 3}', "field 'prompt' is a number, neither text nor messages"),
    (
        b'{"prompt": "x',
        "not a JSON line: Unterminated string starting at at character 11 of the line",
    ),
    (
        b'\xef\xbb\xbf{"prompt": "bom"}',
        "not a JSON line: Unexpected UTF-8 BOM (decode using utf-8-sig) at character 0 of the line",
    ),
    (b'{"prompt": [[]]}', "field 'prompt', turn 0 is a list, not a role and a content"),
    (
        b'{"prompt": [{"role": "user", "content": " \\n"}]}',
        "field 'prompt', turn 0: content is empty",
    ),
    (
        b'{"prompt": [{"role": "system", "content": ""}, {"role": "user", "content": "x"}]}',
        "field 'prompt', turn 0: content is empty",
    ),
    (
        b'{"prompt": [{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}',
        "field 'prompt', turn 1 is the assistant's, expected the user's",
    ),
]
SETTINGS = [
    (
        "growth.rows_per_blok=4",
        "override 'growth.rows_per_blok=4': unknown key 'growth.rows_per_blok'; did you mean 'growth.rows_per_block'?",
    ),
    (
        "tree.num_critique=2",
        "override 'tree.num_critique=2': unknown key 'tree.num_critique'; did you mean 'tree.num_critiques'?",
    ),
    ("polcy.model=x", "override 'polcy.model=x': unknown key 'polcy'; did you mean 'policy'?"),
    (
        "policy.modle=x",
        "override 'policy.modle=x': unknown key 'policy.modle'; did you mean 'policy.model'?",
    ),
    (
        "rsft.trl.learning_rat=1",
        "rsft.trl.learning_rat is no field of TRL's SFTConfig; did you mean 'learning_rate'?",
    ),
    ("dpo.trl.bta=1", "dpo.trl.bta is no field of TRL's DPOConfig; did you mean 'beta'?"),
    (
        "policy.engine.max_num_seq=8",
        "policy.engine.max_num_seq is no vLLM setting; did you mean 'max_num_seqs'?",
    ),
    (
        "policy.sampling.temprature=1",
        "policy.sampling.temprature is no vLLM setting; did you mean 'temperature'?",
    ),
    (
        "reward_model.engine.tensor_parallel=2",
        "reward_model.engine.tensor_parallel is no vLLM setting; did you mean 'tensor_parallel_size'?",
    ),
    (
        "pairs.kinds=[generations]",
        "unknown kind of pair 'generations'; there are: generation, critique, refinement",
    ),
    (
        "pairs.profile=best",
        "pairs: unknown profile 'best'; there are: as_released, as_paper, recommended",
    ),
    (
        "selection.switches.no_lop=true",
        "selection: unknown rule 'no_lop'; did you mean 'no_loop'?",
    ),
    (
        "selection.profile=recomended",
        "selection: unknown profile 'recomended'; there are: as_released, as_paper, recommended",
    ),
    (
        "steps=[grow]",
        "unknown step 'grow'; there are: grow_rsft, select, rsft, grow_dpo, pair, dpo, evaluate",
    ),
    (
        "steps=grow_rsft,select",
        "override 'steps=grow_rsft,select': steps: must be a list: steps=[ONE,TWO]",
    ),
    (
        "steps=[]",
        "steps is empty; there are: grow_rsft, select, rsft, grow_dpo, pair, dpo, evaluate",
    ),
    (
        "growth.placement=wave",
        "override 'growth.placement=wave': growth.placement: Invalid value 'wave', expected one of [resident, waves]",
    ),
    (
        "growth.first_answer=inputs",
        "override 'growth.first_answer=inputs': growth.first_answer: Invalid value 'inputs', expected one of [sampled, input]",
    ),
    (
        "growth.first_answer=input",
        "growth.first_answer is 'input', but prompts.rsft.answer_field is not set",
    ),
    ("tree.num_critiques=0", "tree.num_critiques is 0, must be at least 1"),
    ("tree.num_refinements=0", "tree.num_refinements is 0, must be at least 1"),
    ("tree.max_tries=0", "tree.max_tries is 0, must be at least 1"),
    ("growth.rows_per_block=0", "growth.rows_per_block is 0, must be at least 1"),
    ("policy.min_replicas=0", "policy.min_replicas is 0, must be at least 1"),
    ("policy.min_replicas=2", "policy.max_replicas 1 < min_replicas 2"),
    ("policy.max_replicas=0", "policy.max_replicas is 0, must be at least 1"),
    ("policy.num_cpus=-1", "policy.num_cpus is -1.0, must be at least 0"),
    (
        "policy.num_cpus=many",
        "override 'policy.num_cpus=many': policy.num_cpus: Value 'many' of type 'str' could not be converted to Float",
    ),
    ("policy.gpu_share=0", "policy.gpu_share is 0.0, must be at least 0.01"),
    (
        "policy.gpu_share=2",
        "policy.gpu_share is 2, must be at most 1: an engine takes more GPUs by policy.engine.tensor_parallel_size",
    ),
    (
        "policy.gpu_share=0.5",
        "policy.gpu_share is 0.5, but policy.use_gpu is false; set policy.gpu_share to 1",
    ),
    (
        "policy.use_gpu=maybe",
        "override 'policy.use_gpu=maybe': policy.use_gpu: Value 'maybe' is not a valid bool (type str)",
    ),
    (
        "seed=abc",
        "override 'seed=abc': seed: Value 'abc' of type 'str' could not be converted to Integer",
    ),
    (
        "seed=1.5",
        "override 'seed=1.5': seed: Value '1.5' of type 'float' could not be converted to Integer",
    ),
    ("seed=-1", "seed is -1, must be at least 0"),
    (
        f"seed={10**400}",
        "seed has 401 digits, must be at most 18446744073709551615",
    ),
    ("policy=null", "override 'policy=null': policy: field 'policy' is not Optional"),
    ("reward_model=null", "reward_model is not set: which model rewards answers?"),
    ("reward.kind=maths", "reward_model is set, but reward.kind is maths; leave one out"),
    (
        "reward.kind=logic",
        "override 'reward.kind=logic': reward.kind: Invalid value 'logic', expected one of [classifier, maths, code, function, judge, ensemble]",
    ),
    ("reward.replicas=0", "reward.replicas is 0, must be at least 1"),
    (
        "reward.deviations=-1",
        "reward.deviations is set, but reward.kind is classifier, not ensemble",
    ),
    (
        "growth.corrector_sees=all",
        "override 'growth.corrector_sees=all': growth.corrector_sees: Invalid value 'all', expected one of [nothing, feedback, reference]",
    ),
    (
        "growth.corrector_sees=reference",
        "corrector_sees is reference, but prompts.rsft.reference_field is not set",
    ),
    (
        "growth.corrector_sees=feedback",
        "corrector_sees is feedback, but nothing knows whether an answer is right: reward.kind must be maths or code, or an ensemble with such a member",
    ),
    (
        "growth.criticised_share=0.5",
        "criticised_share is below 1, but nothing knows whether an answer is right: reward.kind must be maths or code, or an ensemble with such a member",
    ),
    ("growth.criticised_share=-1", "growth.criticised_share is -1.0, must be at least 0"),
    ("growth.criticised_share=1.5", "criticised_share is 1.5, must be 0 to 1"),
    (
        "templates.reference_hint=Look.",
        "templates.reference_hint has no {reference}: the corrector would not see it",
    ),
    (
        "templates.feedback_hint=Look.",
        "templates.feedback_hint has no {feedback}: the corrector would not see it",
    ),
    (
        "policy.model=null",
        "override 'policy.model=null': policy.model: Incompatible value 'None' for field of type 'str'",
    ),
    ("policy.model=/no/such/model", "policy.model: no model folder at /no/such/model"),
    ("policy.model=./nope", "policy.model: no model folder at ./nope"),
    ("policy.model=avr/nope", "policy.model: no model folder at avr/nope"),
    ("policy.model=''", "policy.model is empty: it takes a folder or a hub name"),
    ("prompts.rsft.path=null", "the prompts of step grow_rsft: path is not set"),
    ("prompts.rsft.path=nowhere.jsonl", "no prompts at nowhere.jsonl (for step grow_rsft)"),
    ("prompts.rsft.limit=-1", "prompts.rsft.limit is -1, must be at least 1"),
    ("prompts.rsft.limit=0", "prompts.rsft.limit is 0, must be at least 1"),
    (
        "prompts.rsft.limit=many",
        "override 'prompts.rsft.limit=many': prompts.rsft.limit: Value 'many' of type 'str' could not be converted to Integer",
    ),
    ("prompts.rsft.skip=-1", "prompts.rsft.skip is -1, must be at least 0"),
    (
        "evaluation.rounds.best=1",
        "evaluation.rounds.best: no such model; there are: seed, rsft, dpo",
    ),
    ("evaluation.rounds.dpo=-1", "evaluation.rounds.dpo is -1, must be at least 0"),
    (
        "evaluation.oracle=nothing",
        "oracle 'nothing' is no module:function: No module named 'nothing'",
    ),
    (
        "evaluation.oracle=avr.miniature.oracle:nope",
        "oracle 'avr.miniature.oracle:nope' is no module:function: module 'avr.miniature.oracle' has no attribute 'nope'",
    ),
    ("rsft.num_workers=0", "rsft.num_workers is 0, must be at least 1"),
    ("rsft.num_workers=-2", "rsft.num_workers is -2, must be at least 1"),
    (
        "rsft.trl.output_dir=x",
        "rsft.trl.output_dir cannot be set: the training folder beside the model's",
    ),
    ("rsft.trackers=[wandbb]", "rsft.trackers: 'wandbb' is not one of tensorboard, wandb, mlflow"),
    (
        "rsft.max_failures=x",
        "override 'rsft.max_failures=x': rsft.max_failures: Value 'x' of type 'str' could not be converted to Integer",
    ),
    ("policy.sampling.max_tokens=0", "policy.sampling.max_tokens is 0, must be 1 to 1.67772e+07"),
    (
        "policy.sampling.max_tokens=100000",
        "policy.sampling.max_tokens is 100000, and policy.engine.max_model_len only 512",
    ),
    ("policy.sampling.temperature=-1", "policy.sampling.temperature is -1, must be 0 to 100"),
    ("policy.sampling.top_p=2", "policy.sampling.top_p is 2, must be 1e-06 to 1"),
    ("policy.sampling.n=4", "policy.sampling.n is set by the growth of the tree"),
    ("policy.sampling.seed=1", "policy.sampling.seed is set by the growth of the tree"),
    (
        "policy.engine.max_model_len=0",
        "policy.sampling.max_tokens is 96, and policy.engine.max_model_len only 0",
    ),
    ("policy.engine.model=x", "policy.engine.model cannot be set there: it is policy.model"),
    (
        "policy.engine.trust_remote_code=true",
        "policy.engine.trust_remote_code cannot be set there: it is policy.trust_remote_code",
    ),
    (
        "policy.trust_remote_code=maybe",
        "override 'policy.trust_remote_code=maybe': policy.trust_remote_code: Value 'maybe' is not a valid bool (type str)",
    ),
    (
        "templates.critique_request=''",
        "templates.critique_request is empty: the corrector would not be asked",
    ),
    (
        "templates.refine_request=''",
        "templates.refine_request is empty: the corrector would not be asked",
    ),
    ("placement_timeout_s=-1", "placement_timeout_s is -1.0, must be at least 1"),
    ("pairs.min_margin=-1", "pairs.min_margin is -1.0, must be at least 0"),
    ("budget.max_device_hours=-1", "budget.max_device_hours is -1.0, must be at least 0"),
    (
        "budget.max_devicehours=1",
        "override 'budget.max_devicehours=1': unknown key 'budget.max_devicehours'; did you mean 'budget.max_device_hours'?",
    ),
    (
        "resume=maybe",
        "override 'resume=maybe': resume: Invalid value 'maybe', expected one of [never, always, if_possible]",
    ),
    ("growth.max_engine_deaths=-1", "growth.max_engine_deaths is -1, must be at least 1"),
    ("growth.no_progress_timeout_s=0", "growth.no_progress_timeout_s is 0.0, must be at least 1"),
    ("growth.parity_tolerance=-1", "growth.parity_tolerance is -1.0, must be at least 0"),
    (
        "run_dir=null",
        "override 'run_dir=null': run_dir: Incompatible value 'None' for field of type 'str'",
    ),
    ("run_dir=''", "run_dir is empty"),
    ("nonsense", "override 'nonsense' is not of the form key=value"),
    ("=3", "override '=3': Key '' not in 'Stage1Config'"),
    ("policy.max_rows_per_replica=0", "policy.max_rows_per_replica is 0, must be at least 1"),
    (
        "policy.engine=3",
        "override 'policy.engine=3': policy.engine: Cannot assign int to Dict[str, Any]",
    ),
    (
        "policy.sampling=[1]",
        "override 'policy.sampling=[1]': Cannot merge incompatible container types",
    ),
    ("tree=3", "override 'tree=3': Merge error: int is not a subclass of TreeConfig. value: 3"),
    (
        "evaluation.rounds={seed:0}",
        "override 'evaluation.rounds={seed:0}': evaluation.rounds.seed:0: field 'evaluation.rounds.seed:0' is not Optional",
    ),
    (
        "zeal=1",
        "override 'zeal=1': unknown key 'zeal'; there are: run_dir, seed, steps, templates, resume, placement_timeout_s, budget, gpu_memory_gib, ray, policy, queries, serving, prompts, corrector, reward, reward_model, tree, growth, selection, pairs, rsft, dpo, evaluation",
    ),
    ("corrector.model=nowhere/at/all", "corrector.model: no model folder at nowhere/at/all"),
    (
        "corrector.engine.max_num_seqz=1",
        "corrector.engine.max_num_seqz is no vLLM setting; did you mean 'max_num_seqs'?",
    ),
    ("prompts.dpo.path=nowhere", "no prompts at nowhere (for step grow_dpo)"),
    ("evaluation.prompts.path=none.jsonl", "no prompts at none.jsonl (for step evaluate)"),
    ("reward_model.model=/none", "reward_model.model: no model folder at /none"),
    (
        "dpo.trl.output_dir=x",
        "dpo.trl.output_dir cannot be set: the training folder beside the model's",
    ),
    ("dpo.num_workers=0", "dpo.num_workers is 0, must be at least 1"),
    (
        "templates.critique_requests=x",
        "override 'templates.critique_requests=x': unknown key 'templates.critique_requests'; did you mean 'templates.critique_request'?",
    ),
    (
        "growth.max_engine_death=1",
        "override 'growth.max_engine_death=1': unknown key 'growth.max_engine_death'; did you mean 'growth.max_engine_deaths'?",
    ),
    (
        "placement_timeout=3",
        "override 'placement_timeout=3': unknown key 'placement_timeout'; did you mean 'placement_timeout_s'?",
    ),
    (
        "prompt.rsft.path=x",
        "override 'prompt.rsft.path=x': unknown key 'prompt'; did you mean 'prompts'?",
    ),
    (
        "rsft.trl.warmup_ratio=0.1",
        "rsft.trl.warmup_ratio is no field of TRL's SFTConfig; did you mean 'warmup_steps'?",
    ),
    (
        "policy.sampling.max_token=3",
        "policy.sampling.max_token is no vLLM setting; did you mean 'max_tokens'?",
    ),
    (
        "policy.engine.tensor_paralel_size=2",
        "policy.engine.tensor_paralel_size is no vLLM setting; did you mean 'tensor_parallel_size'?",
    ),
    (
        "selection.switches.improve=true",
        "selection: unknown rule 'improve'; there are: discreet, finished, length_control, no_loop, "
        "no_repeated_word, plain_rows, sees_fault, unique",
    ),
    ("budget.max_device_hours=nan", "budget.max_device_hours is nan, must be at least 0"),
    ("growth.parity_tolerance=nan", "growth.parity_tolerance is nan, must be at least 0"),
]


@pytest.mark.parametrize(("row", "reason"), ROWS, ids=range(len(ROWS)))
def test_a_bad_row_is_set_aside_with_its_reason_and_good_ones_come_through(tmp_path, row, reason):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt": "first"}\n' + row + b'\n{"prompt": "good"}\n')
    counts = ingest(PromptsConfig(path=str(file)), tmp_path / "p.parquet", tmp_path / "q.parquet")
    (bad,) = tables.read_rows(tmp_path / "q.parquet")
    good = tables.read_rows(tmp_path / "p.parquet")
    assert bad == {"source": f"{file}:2", "reason": reason.replace("FILE", str(file))}
    assert [prompt["query"][0]["content"] for prompt in good] == ["first", "good"]
    assert (counts.num_rows, counts.num_prompts, counts.num_quarantined) == (3, 2, 1)


@pytest.mark.parametrize(("override", "words"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_bad_setting_is_refused_before_anything_starts(override, words):
    with pytest.raises(ConfigError) as caught:
        config = load(Stage1Config, "conf/miniature/stage1.yaml", [override])
        checked(config)
    assert str(caught.value) == words
