"""A replication's commands and what can be wrong with them; starting them is tested elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.table import ReplicaJobConfig, ReplicateConfig
from avr.replication.commands import check, command_of, job_config, table_config

RECIPE = "conf/miniature/replicate.yaml"


def recipe(*overrides):
    return load(ReplicateConfig, RECIPE, overrides)


BOTH = pytest.mark.parametrize("file", [RECIPE, "conf/miniature/ablation.yaml"])


@BOTH
def test_every_job_of_the_recipe_gets_its_seed_and_its_folder(tmp_path, file):
    config = load(ReplicateConfig, file, [f"run_dir={tmp_path}"])
    check(config)
    for seed in (0, 2):
        for name in config.jobs:
            script, conf, own, *others = command_of(config, name, seed)[1:]
            assert Path(script).is_file() and Path(conf).is_file()
            assert own == f"run_dir={tmp_path}/seed-{seed}/{name}"
            assert f"seed={seed}" in others
            assert not any("{" in other and "}" in other for other in others)
    assert f"stage1_dir={tmp_path}/seed-2/stage1" in command_of(config, "stage2", 2)


@BOTH
def test_models_of_the_table_are_those_that_the_jobs_leave(tmp_path, file):
    config = load(ReplicateConfig, file, [f"run_dir={tmp_path}"])
    trained = [
        model for entrant in table_config(config, 1).entrants.values() for model in entrant.trained
    ]
    runs = {Path(model).parent for model in trained}
    assert runs <= {tmp_path / "seed-1" / name for name in config.jobs}
    assert {Path(model).name for model in trained} == {"rsft", "dpo"}


def test_simpo_is_traditional_dpo_under_another_loss():
    dpo, simpo = (job_config(recipe(), name, 1) for name in ("dpo", "simpo"))
    assert simpo.simpo_margin and simpo.dpo.trl["seed"] == dpo.dpo.trl["seed"] == 1
    assert simpo.run_dir != dpo.run_dir
    assert replace(simpo, run_dir=dpo.run_dir, dpo=dpo.dpo, simpo_margin=None) == dpo
    changed = {key for key in simpo.dpo.trl if simpo.dpo.trl[key] != dpo.dpo.trl[key]}
    assert changed == {"loss_type", "loss_weights", "beta", "learning_rate"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seeds=[]", "seeds is []"),
        ("seeds=[1,1]", "none twice"),
        ("seeds=[0,-1]", "seeds: each must lie between 0 and 18446744073709551615"),
        ("jobs.dpo.job=stage3", "jobs.dpo.job is 'stage3'; there are answer"),
        ("jobs.dpo.overrides=[sede=1]", "jobs.dpo: override 'sede=1': unknown key 'sede'"),
        ("jobs.dpo.config=conf/none.yaml", "no such configuration file: conf/none.yaml"),
        ("jobs.dpo.overrides=[run_dir=x]", "'run_dir=x' is set by the replication"),
        (
            "jobs.simpo.takes.sample=table",
            "simpo.takes is from table: it must be from one job",
        ),
        ("jobs.stage1.takes.grow_rsft=dpo", "from one job before it (there is none)"),
        ("jobs.simpo.takes.pair=meta-1", "jobs.simpo.takes is from dpo and meta-1"),
        ("jobs.simpo.takes.smaple=dpo", "takes is sample, smaple; the first steps of simpo are s"),
        ("jobs.meta-2.takes.pair=meta-1", "takes is pair; the first steps of meta-2 are sample"),
        ("table=tabel", "table is 'tabel'; jobs of table are table"),
        ("search=stage1", "search is 'stage1'; jobs of stage2 are stage2"),
        ("efficiency=[dpo r9]", "no row 'dpo r9' in the table; there are seed r0"),
        ("orderings=[dpo]", "'dpo' is not of the form"),
        ("orderings=[dpo r0 < nobody]", "no row 'nobody'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_started(override, words):
    with pytest.raises(ConfigError) as error:
        check(recipe(override))
    assert words in str(error.value)


def test_a_job_of_the_users_own_may_be_added():
    config = recipe()
    mine = ReplicaJobConfig("evaluate", "conf/miniature/baseline.yaml", ["seed={seed}"])
    check(replace(config, jobs={**config.jobs, "mine": mine}))
