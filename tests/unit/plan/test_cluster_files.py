"""Files in cluster/: valid by their own schemas, safe by default, and large enough for each recipe.

Ray is imported inside tests alone: its package holds the launcher's schema and the code that reads
KubeRay manifests. Nothing is started.
"""

import copy
import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from configured import needs

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.table import TableConfig
from avr.plan.cluster_files import autoscaling, node_types, spec_of
from avr.plan.fit import NodeType, misfits
from avr.recipes.answer import AnswerConfig
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config

LAUNCHER = [Path("cluster/aws.yaml"), Path("cluster/gcp.yaml")]
KUBERAY = [Path("cluster/kuberay/raycluster.yaml"), Path("cluster/kuberay/rayjob.yaml")]
CRDS = Path("../shared/data/kuberay")
ANY = "tests/unit/answers.json"  # recipes that are given their prompts or model later
POLICY = "policy.model=avr/miniature/models/policy"
COMPARED = [f"prompts.path={ANY}", f"baseline.path={ANY}"]
RECIPES = {
    "stage1": (Stage1Config, []),
    "stage1_80gb": (Stage1Config, []),
    "one_gpu": (Stage1Config, []),
    "alpaca_eval": (Stage1Config, [f"prompts.rsft.path={ANY}"]),
    "stage2": (Stage2Config, []),
    "stage2_80gb": (Stage2Config, []),
    "answer": (AnswerConfig, [POLICY]),
    "baseline_dpo": (BaselineConfig, []),
    "baseline_simpo": (BaselineConfig, []),
    "baseline": (EvaluateConfig, []),
    "evaluate": (EvaluateConfig, [POLICY, *COMPARED]),
    "self_refine": (EvaluateConfig, COMPARED),
    "evaluate_alpaca": (EvaluateConfig, [POLICY, *COMPARED]),
    "evaluate_arena": (EvaluateConfig, [POLICY, *COMPARED]),
    "meta_rewarding": (BaselineConfig, []),
    "rft": (RftConfig, []),
    "table": (TableConfig, []),
    "best_of_n": (TableConfig, []),
    "ablation_table": (TableConfig, []),
    "refine": (RefineConfig, [POLICY, f"answers.path={ANY}"]),
}
# A replication plans nothing of its own; its jobs are recipes of this list.
PLANNED = [
    recipe
    for recipe in sorted(Path("conf").glob("*/*.yaml"))
    if recipe.stem not in ("replicate", "ablation")
]
by_name = {"ids": lambda path: "/".join(path.parts[-2:])}


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@cache
def plan_of(recipe, *overrides):
    schema, given = RECIPES[recipe.stem]
    return needs(load(schema, recipe, [*given, *without_trained(recipe), *overrides]))


@cache
def nodes_of(cluster):
    return list(node_types(cluster).values())


def without_trained(recipe):
    """Overrides that take the models of a table away, which other runs leave."""
    entrants = read(recipe).get("entrants", {})
    return [f"entrants.{n}.trained=[]" for n, entrant in entrants.items() if "trained" in entrant]


def closed(schema):
    """A CRD's schema in which a field it does not know is an error and not silently pruned."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items()}
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties", {}), dict)
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


@cache
def crd_validator(kind):
    file = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(f"KubeRay's CRD is not there: {file}")
    crd = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [v for v in crd["spec"]["versions"] if v["storage"]]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # every object's, not the CRD's to say
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", LAUNCHER, **by_name)
def test_launcher_files_are_what_ray_reads_and_leave_it_nothing_to_install(path):
    config = autoscaling(path)
    assert config["max_workers"] == sum(
        kind["max_workers"] for kind in config["available_node_types"].values()
    )
    commands = [c for key in config if key.endswith("setup_commands") for c in config[key]]
    assert commands == []


@pytest.mark.parametrize("path", LAUNCHER, **by_name)
def test_launcher_files_know_no_field_that_the_schema_does_not(path):
    from ray.autoscaler._private.util import validate_config

    for place in ("", "docker", "auth"):
        config = copy.deepcopy(autoscaling(path))
        (config[place] if place else config)["idle_timeout_minuts"] = 5
        with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
            validate_config(config)


@pytest.mark.parametrize("path", KUBERAY, **by_name)
def test_kuberay_manifests_are_what_their_crd_describes(path):
    manifest = read(path)
    errors = crd_validator(manifest["kind"]).iter_errors(manifest)
    assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []


def test_a_field_that_the_crd_does_not_know_would_be_found_at_any_depth():
    manifest = read(KUBERAY[0])
    spec = manifest["spec"]
    container = spec["workerGroupSpecs"][1]["template"]["spec"]["containers"][0]
    for place in (spec, spec["autoscalerOptions"], container, container["resources"]):
        place["maxReplica"] = 3
        (error,) = crd_validator("RayCluster").iter_errors(manifest)
        assert "maxReplica" in error.message
        del place["maxReplica"]


def test_the_job_brings_the_cluster_of_the_other_manifest_and_is_tried_again():
    cluster, job = (read(path) for path in KUBERAY)
    params = spec_of(job)["headGroupSpec"]["rayStartParams"]
    assert params.pop("dashboard-host") == "0.0.0.0"  # KubeRay submits through the Service
    assert spec_of(cluster)["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "127.0.0.1"
    assert spec_of(job) == spec_of(cluster)
    assert job["spec"]["backoffLimit"] > 0 and job["spec"]["shutdownAfterJobFinishes"]
    words = job["spec"]["entrypoint"].split()
    assert words[0] == "python"
    assert all(Path(word).relative_to("/opt/avr").exists() for word in words[1:3])
    assert words[3].startswith("run_dir=/shared/")


@pytest.mark.parametrize("cluster", LAUNCHER + KUBERAY, **by_name)
@pytest.mark.parametrize("recipe", PLANNED, **by_name)
def test_every_recipe_can_be_placed_on_every_cluster(recipe, cluster):
    assert misfits(plan_of(recipe), nodes_of(cluster)) == []


@pytest.mark.parametrize(
    "recipe",
    [
        recipe
        for recipe in PLANNED
        if recipe.parent.name in ("miniature", "maths", "code") and recipe.stem != "one_gpu"
    ],
    **by_name,
)
def test_laptop_recipes_fit_the_logical_cpus_they_ask_for(recipe):
    schema, given = RECIPES[recipe.stem]
    cpus = load(schema, recipe, given).ray["num_cpus"]
    assert misfits(plan_of(recipe), [NodeType("laptop", 1, cpus)]) == []


@pytest.mark.parametrize("cluster", LAUNCHER + KUBERAY, **by_name)
def test_cluster_files_name_gpus_whose_memory_is_known(cluster):
    nodes = node_types(cluster).values()
    assert [node.gpu_gib for node in nodes if node.gpus] == [80, 80]
    assert [node.gpu_gib for node in nodes if not node.gpus] == [None, None]


def test_three_engines_share_the_gpu_of_a_machine_that_has_one():
    recipe = Path("conf/miniature/one_gpu.yaml")
    assert misfits(plan_of(recipe), [NodeType("workstation", 1, 8, 1)]) == []
    assert misfits(plan_of(recipe, "corrector.gpu_share=1"), [NodeType("workstation", 1, 8, 1)])


@pytest.mark.parametrize("cluster", LAUNCHER + KUBERAY, **by_name)
def test_a_recipe_that_can_never_be_placed_is_told_with_the_role(cluster):
    recipe = Path("conf/llama3_8b/stage1.yaml")
    nodes = node_types(cluster)
    large = max(nodes, key=lambda name: nodes[name].gpus)
    without = [node for name, node in nodes.items() if name != large]
    assert "corrector needs 2 GPUs" in misfits(plan_of(recipe), without)[0]
    wide = plan_of(recipe, "corrector.engine.tensor_parallel_size=16")
    assert "corrector needs 16 GPUs" in misfits(wide, list(nodes.values()))[0]
    many = plan_of(recipe, "rsft.num_workers=64")
    assert "training worker needs" in misfits(many, list(nodes.values()))[0]


@pytest.mark.parametrize("cluster", LAUNCHER + KUBERAY, **by_name)
def test_heads_do_no_work_and_nodes_outlive_the_pause_between_steps(cluster):
    config = autoscaling(cluster)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0 and not head["resources"].get("GPU")
    assert config["idle_timeout_minutes"] >= 15
    workers = [n for name, n in node_types(cluster).items() if name != config["head_node_type"]]
    assert {node.gpus for node in workers} == {0, 1, 8}
    kinds = config["available_node_types"].values()
    assert all(kind["min_workers"] == 0 for kind in kinds)  # nothing is paid for that is not used


def test_gpu_workers_are_spot_and_heads_are_not():
    for path, is_spot in (
        (LAUNCHER[0], lambda node: node.get("InstanceMarketOptions") == {"MarketType": "spot"}),
        (LAUNCHER[1], lambda node: node.get("scheduling", {}).get("provisioningModel") == "SPOT"),
    ):
        types = read(path)["available_node_types"]
        assert {name for name, kind in types.items() if is_spot(kind["node_config"])} == (
            types.keys() - {"head"}
        )
    spot = "cloud.google.com/gke-spot"
    spec = spec_of(read(KUBERAY[0]))
    for group in spec["workerGroupSpecs"]:
        assert group["template"]["spec"]["nodeSelector"][spot] == "true"
    affinity = json.dumps(spec["headGroupSpec"]["template"]["spec"]["affinity"])
    assert spot in affinity and "DoesNotExist" in affinity


def test_disks_of_gpu_nodes_hold_what_a_run_on_an_object_store_puts_there():
    hub = 8 + 32.8 + 27.2  # billions of parameters, two bytes each: policy, corrector, reward model
    runs = 5 * 8  # models of both stages, fetched or on their way up
    checkpoints = 2 * 8 * 14  # the one resumed from and the one written: bf16 and three float32
    image = 25
    types = read(LAUNCHER[0])["available_node_types"]
    for name in ("gpu", "gpu_multi"):
        (disk,) = types[name]["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] > 1.2 * (2 * hub + 2 * runs + checkpoints + image)
        assert disk["Ebs"]["Throughput"] <= disk["Ebs"]["Iops"] / 4  # EC2's rule for gp3


def test_every_cluster_asks_for_the_token_and_holds_none():
    for path in LAUNCHER:
        config = read(path)
        starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        starts = [command for command in starts if "ray start" in command]
        assert len(starts) == 2 and all("RAY_AUTH_MODE=token ray start" in c for c in starts)
        assert list(config["file_mounts"].values()) == ["~/.ray/auth_token"]
    for path in KUBERAY:
        assert spec_of(read(path))["authOptions"] == {"mode": "token"}
    secret = re.compile(
        r"AKIA[0-9A-Z]{12}|hf_[A-Za-z0-9]{16}|BEGIN [A-Z ]*PRIVATE KEY"
        r"|(?i:(token|password|secret|api_key)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{16,})"
    )
    for file in filter(Path.is_file, Path("cluster").rglob("*")):
        assert not secret.search(file.read_text()), file


def test_nothing_listens_to_the_world_and_nothing_trusts_remote_code():
    for path in LAUNCHER:
        (head,) = [c for c in read(path)["head_start_ray_commands"] if "--head" in c]
        assert "--dashboard-host=127.0.0.1" in head
    for path in KUBERAY:
        assert spec_of(read(path))["headGroupSpec"]["serviceType"] == "ClusterIP"
    files = [f for f in Path("cluster").rglob("*") if f.is_file()]
    public = {f for f in files if "0.0.0.0" in f.read_text() or "EXPOSE" in f.read_text()}
    assert public <= {Path("cluster/kuberay/rayjob.yaml")}
    for file in [*files, *Path("conf").rglob("*.yaml")]:
        assert not re.search(r"trust.remote.code\W+true", file.read_text(), re.IGNORECASE), file


def test_pods_run_as_no_root_and_share_one_volume_that_many_may_write():
    storage = read(Path("cluster/kuberay/storage.yaml"))
    assert storage["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = spec_of(read(KUBERAY[0]))
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["restartPolicy"] == "Never"
        claims = [v["persistentVolumeClaim"] for v in pod["volumes"] if v["name"] == "shared"]
        assert claims == [{"claimName": storage["metadata"]["name"]}]
        (container,) = pod["containers"]
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Pod\nspec: {}\n", "not a cluster that Ray can read"),
        ("{", "not a cluster"),
        ("", ""),
    ],
)
def test_a_file_that_is_no_cluster_is_named(tmp_path, text, message):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"cluster.yaml: .*{message}"):
        node_types(file)
    with pytest.raises(ConfigError, match="no cluster file at"):
        node_types(tmp_path / "other.yaml")
