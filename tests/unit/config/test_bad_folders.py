"""What a user gets for models, values and run directories that cannot be used: the exact words."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from configured import checked, planned

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.data.tables import read_ids
from avr.engines.folders import check_model
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.storage import check_writable, location

MINIATURE = Path("avr/miniature/models")


def remove(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def setting(name, **values):
    def change(folder):
        file = folder / name
        settings = json.loads(file.read_text()) | values
        file.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))

    return change


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_template(folder):
    (folder / "chat_template.jinja").unlink()
    setting("tokenizer_config.json", chat_template=None)(folder)


# Which miniature model, what is done to a copy of it, what a user reads.
FOLDERS = [
    ("policy", remove("config.json"), "no model folder at FOLDER"),
    ("policy", remove("model.safetensors"), "FOLDER holds no .safetensors weights"),
    (
        "policy",
        pickled,
        "FOLDER holds pickled weights only (pytorch_model.bin), which can run code when they are "
        "loaded; convert them to safetensors",
    ),
    (
        "policy",
        remove("tokenizer.json"),
        "FOLDER holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)",
    ),
    ("policy", without_template, "the tokenizer of FOLDER has no chat template"),
    (
        "policy",
        write("config.json", '{"architectures": ['),
        "FOLDER/config.json is not JSON: Expecting value: line 1 column 20 (char 19)",
    ),
    ("policy", write("config.json", "[]"), "FOLDER/config.json holds no JSON object"),
    (
        "policy",
        lambda folder: (
            without_template(folder),
            write("tokenizer_config.json", "{nothing")(folder),
        ),
        "FOLDER/tokenizer_config.json is not JSON: Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1)",
    ),
    (
        "reward",
        setting("config.json", id2label={"0": "bad", "1": "good"}),
        "FOLDER has 2 labels; a Bradley-Terry reward model has one",
    ),
    (
        "reward",
        setting("config.json", id2label=None),  # two is what Transformers leaves out
        "FOLDER has 2 labels; a Bradley-Terry reward model has one",
    ),
    (
        "reward",
        setting("config.json", architectures=["LlamaForCausalLM"]),
        "FOLDER is a LlamaForCausalLM, not a sequence classifier",
    ),
    (
        "reward",
        setting("config.json", architectures=None),
        "FOLDER is a unknown, not a sequence classifier",
    ),
]


@pytest.mark.parametrize(("role", "change", "words"), FOLDERS, ids=range(len(FOLDERS)))
def test_a_model_folder_that_cannot_be_served_is_refused(tmp_path, role, change, words):
    folder = tmp_path / "model"
    shutil.copytree(MINIATURE / role, folder)
    check_model("role.model", str(folder), scores=role == "reward")
    change(folder)
    with pytest.raises(ConfigError) as caught:
        check_model("role.model", str(folder), scores=role == "reward")
    assert str(caught.value) == "role.model: " + words.replace("FOLDER", str(folder))


TRAINING = [
    ("rsft.trl.learning_rate=fast", "rsft.trl.learning_rate is 'fast', must be a number"),
    ("rsft.trl.learning_rate=true", "rsft.trl.learning_rate is True, must be a number"),
    ("rsft.trl.learning_rate=null", "rsft.trl.learning_rate is None, must be a number"),
    ("rsft.trl.max_length=long", "rsft.trl.max_length is 'long', must be a whole number or null"),
    ("rsft.trl.max_length=1.5", "rsft.trl.max_length is 1.5, must be a whole number or null"),
    (
        "rsft.trl.per_device_train_batch_size=eight",
        "rsft.trl.per_device_train_batch_size is 'eight', must be a whole number",
    ),
    ("rsft.trl.bf16=maybe", "rsft.trl.bf16 is 'maybe', must be true or false or null"),
    (
        "rsft.trl.gradient_checkpointing=1",
        "rsft.trl.gradient_checkpointing is 1, must be true or false",
    ),
    (
        "rsft.trl.lr_scheduler_type=cosin",
        "rsft.trl.lr_scheduler_type is 'cosin'; did you mean 'cosine'?",
    ),
    (
        "rsft.trl.save_strategy=sometimes",
        "rsft.trl.save_strategy is 'sometimes'; there are: no, steps, epoch, best",
    ),
    ("rsft.trl.optim=adamw_torc", "rsft.trl.optim is 'adamw_torc'; did you mean 'adamw_torch'?"),
    ("dpo.trl.beta=[0.1]", "dpo.trl.beta is [0.1], must be a number"),
    ("dpo.trl.loss_weights=[1, x]", "dpo.trl.loss_weights is [1, 'x'], must be list or null"),
    (
        "rsft.deepspeed.zero_optimization.stage=7",
        "rsft.deepspeed.zero_optimization.stage is 7, must be 0, 1, 2 or 3",
    ),
    (
        "dpo.deepspeed.zero_optimization=3",
        "dpo.deepspeed.zero_optimization.stage is 3, must be 0, 1, 2 or 3",
    ),
    (
        "dpo.deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save=false",
        "dpo.deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save must be true: "
        "without it ZeRO-3 saves empty weights",
    ),
    (
        "rsft.trl.hub_token=hf_x",
        "rsft.trl.hub_token cannot be set: put secrets in environment "
        "variables: settings are written to files",
    ),
    (
        "policy.engine.hf_token=hf_x",
        "policy.engine.hf_token cannot be set: put secrets in environment "
        "variables: settings are written to files",
    ),
    (
        "rsft.trl.model_init_kwargs.token=hf_x",
        "rsft.trl.model_init_kwargs.token cannot be set: put secrets in environment "
        "variables: settings are written to files",
    ),
    (
        "dpo.deepspeed.comet.api_key=x",
        "dpo.deepspeed.comet.api_key cannot be set: put secrets in environment "
        "variables: settings are written to files",
    ),
    (
        "ray._redis_password=x",
        "ray._redis_password cannot be set: put secrets in environment "
        "variables: settings are written to files",
    ),
    (
        "policy.engine.model_loader_extra_config.aws_secret_access_key=x",
        "policy.engine.model_loader_extra_config.aws_secret_access_key cannot be set: put "
        "secrets in environment variables: settings are written to files",
    ),
    (
        "policy.engine.worker_extension_cls=mine.Worker",
        "policy.engine.worker_extension_cls cannot be set: ours is what takes over new weights",
    ),
    (
        "policy.engine.load_format=pt",
        "policy.engine.load_format is 'pt', which loads pickles: they can run code; convert the "
        "weights to safetensors",
    ),
    (
        "rsft.trl.model_init_kwargs.use_safetensors=false",
        "rsft.trl.model_init_kwargs.use_safetensors is False: pickles can run code when they are "
        "loaded; convert the weights to safetensors",
    ),
    (
        "rsft.trl.model_init_kwargs='{}'",
        "rsft.trl.model_init_kwargs must be a mapping, not a str",
    ),
    (
        "rsft.trl.save_strategy=no",
        "rsft.trl.save_strategy is False, which is how YAML reads no: put it in quotes, 'no'",
    ),
    (
        "dpo.save_dtype=floaty",
        "dpo.save_dtype is 'floaty'; there are: bfloat16, float16, float32",
    ),
    ("rsft.trl.max_length=0", "rsft.trl.max_length is 0, must be above 0 and finite"),
    ("rsft.trl.learning_rate=.inf", "rsft.trl.learning_rate is inf, must be above 0 and finite"),
    ("dpo.trl.num_train_epochs=.nan", "dpo.trl.num_train_epochs is nan, a number is needed"),
    ("dpo.trl.num_train_epochs=0", "dpo.trl.num_train_epochs is 0, must be above 0 and finite"),
    ("dpo.trl.beta=.nan", "dpo.trl.beta is nan, a number is needed"),
    (
        "rsft.trl.gradient_accumulation_steps=0",
        "rsft.trl.gradient_accumulation_steps is 0, must be above 0 and finite",
    ),
    (
        "rsft.trl.model_init_kwargs.revision=v1",
        "rsft.trl.model_init_kwargs.revision cannot be set: it is policy.model, as NAME@REVISION",
    ),
    (
        "rsft.checkpoint_every_s=-1",
        "rsft.checkpoint_every_s is -1.0, must be at least 0",
    ),
    ("dpo.trl.loss_weights=1.0", "dpo.trl.loss_weights is 1.0, must be list or null"),
    ("run_dir=s3://", "s3:// names nothing"),
    (
        "policy.engine.max_model_len=big",
        "policy.engine.max_model_len is 'big', must be a whole number",
    ),
    (
        "run_dir='s3://bucket/run[1]'",
        "run_dir is 's3://bucket/run[1]': on an object store it must not hold *?[]",
    ),
    (
        "run_dir='s3://key:secret@bucket/run'",
        "run_dir holds an address with a user or a password: put secrets in "
        "environment variables: settings are written to files",
    ),
    ("run_dir=nowhere://bucket/run", "nowhere://bucket/run: Unsupported filesystem: 'nowhere'"),
    (
        "prompts.rsft.path=nowhere://p.jsonl",
        "nowhere://p.jsonl: Unsupported filesystem: 'nowhere'",
    ),
    ("policy.model=nowhere://bucket/m", "nowhere://bucket/m: Unsupported filesystem: 'nowhere'"),
]


@pytest.mark.parametrize(("override", "words"), TRAINING, ids=[name for name, _ in TRAINING])
def test_a_value_of_a_wrong_kind_is_refused_before_anything_starts(override, words):
    with pytest.raises(ConfigError) as caught:
        config = load(Stage1Config, "conf/miniature/stage1.yaml", [override])
        checked(config)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    "trl",
    [
        "learning_rate=1",
        "learning_rate=5e-4",
        "max_length=null",
        "save_strategy=epoch",
        "lr_scheduler_type=cosine_with_min_lr",
        "lr_scheduler_kwargs={min_lr: 1e-6}",
        "save_steps=10",
        "max_grad_norm=.inf",
        "loss_type=nll",
        "eos_token=x",
        "pad_token=y",
    ],
)
def test_values_that_trl_takes_are_let_through(trl):
    checked(load(Stage1Config, "conf/miniature/stage1.yaml", [f"rsft.trl.{trl}"]))


STAGE2 = [
    ("stage1_dir=null", "policy.model is 'None/dpo': stage1_dir is not set"),
    (
        "stage1_dir=/no/such/run",
        "stage1_dir: no folder /no/such/run; jobs/stage1.py makes one, and stage1_dir=DIR names "
        "another",
    ),
    ("stage1_dir=tests", "no model at tests/dpo: Stage I has not come to its end there"),
    ("max_depth=0", "max_depth is 0, must be at least 1"),
    ("outputs.num_outputs=1", "outputs.num_outputs is 1, must be at least 2"),
    (
        "trajectories.unchanged_share=2",
        "trajectories.unchanged_share is 2.0, must lie between 0 and 1",
    ),
    (
        "trajectories.template=thinks",
        "trajectories.template 'thinks': there are miniature, released, think",
    ),
    (
        "steps=[serch]",
        "unknown step 'serch'; there are: search, unroll, rsft, sample, pair, dpo, evaluate",
    ),
    ("queries.queries_per_task=0", "queries.queries_per_task is 0, must be at least 1"),
    (
        "queries.start_timeout=3",
        "override 'queries.start_timeout=3': unknown key 'queries.start_timeout'; did you mean "
        "'queries.start_timeout_s'?",
    ),
]


@pytest.mark.parametrize(("override", "words"), STAGE2, ids=[name for name, _ in STAGE2])
def test_a_bad_setting_of_stage_two_is_refused_before_anything_starts(override, words):
    with pytest.raises(ConfigError) as caught:
        config = load(Stage2Config, "conf/miniature/stage2.yaml", [override])
        (checked if override.startswith("stage1_dir") else planned)(config)
    assert str(caught.value) == words


def test_a_run_directory_inside_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        check_writable(tmp_path / "file" / "run", "run_dir")
    assert (
        str(caught.value) == f"run_dir: {tmp_path}/file/run cannot be written to: Not a directory"
    )


def test_a_run_directory_that_is_read_only_is_refused(tmp_path):
    folder = tmp_path
    if os.geteuid() == 0:  # who may write everywhere but into the kernel's own
        folder = Path("/proc/self/task")
    folder.chmod(0o555) if folder == tmp_path else None
    with pytest.raises(ConfigError, match=rf"run_dir: {folder}/run cannot be written to: \w+"):
        check_writable(folder / "run", "run_dir")


FULL = """
import resource, signal, sys
from pathlib import Path
from avr.data.schemas import RSFT_ROWS
from avr.data.tables import write_part
from avr.storage import check_writable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
row = {"id": "a", "messages": [], "node_ids": [], "gain": 1.0}
folder = Path(sys.argv[1])
write_part(folder, "first", [row], RSFT_ROWS)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # the kernel now refuses what a full disk would
for act in (
    lambda: write_part(folder, "second", [row | {"id": "b"}], RSFT_ROWS),
    lambda: check_writable(folder, "run_dir"),
):
    try:
        act()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_full_disk_tears_nothing_and_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("OSError: [Errno 27]") and "File too large" in first
    assert second == f"ConfigError: run_dir: {tmp_path} cannot be written to: File too large"
    assert read_ids(tmp_path) == {"a"}
    assert [file.name for file in tmp_path.iterdir()] == ["first.parquet"]


def test_a_path_with_a_protocol_of_this_machine_is_a_path():
    assert location("file:///a/b") == Path("/a/b") and location("a/b") == Path("a/b")
    assert str(location("s3://bucket/run/")) == "s3://bucket/run"
