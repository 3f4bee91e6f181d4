"""The image of clusters, what a job uploads, and the commands that lead there.

Ray is imported inside one test alone, for its own packaging of uploads. Nothing is started.
"""

import re
import zipfile
from pathlib import Path

import yaml

from avr.plan.cluster_files import spec_of


def pins(path):
    lines = Path(path).read_text().split()
    assert all("==" in line for line in lines)
    return dict(line.split("==") for line in lines)


def environment(file):
    """What the last stage of a Dockerfile sets."""
    text = file.read_text().replace("\\\n", " ")
    stage = re.split(r"^FROM ", text, flags=re.MULTILINE)[-1]
    lines = re.findall(r"^ENV (.*)$", stage, re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


def test_containers_see_the_gpus_of_their_machine_and_the_driver():
    seen = environment(Path("cluster/Dockerfile"))
    assert seen["NVIDIA_VISIBLE_DEVICES"] == "all"
    # compute is CUDA, utility is what tells how much memory is free
    assert set(seen["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility"}
    assert "/usr/local/nvidia/lib64" in seen["LD_LIBRARY_PATH"].split(":")  # GKE


def test_pods_that_ask_for_no_gpu_offer_none():
    """Where NVIDIA's runtime is the default, the image shows them every GPU of their node."""
    for path in Path("cluster/kuberay").glob("ray*.yaml"):
        spec = spec_of(yaml.safe_load(path.read_text()))
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            if "nvidia.com/gpu" not in container["resources"]["limits"]:
                assert group["rayStartParams"]["num-gpus"] == "0", path


def test_the_image_holds_the_pinned_gpu_environment_and_clusters_run_its_ray():
    gpu, launcher = pins("requirements/gpu.txt"), pins("requirements/cluster.txt")
    # What the autoscaler on the head needs.
    assert {"boto3", "google-api-python-client"} <= launcher.keys() | gpu.keys()
    assert not launcher.keys() & gpu.keys()  # installed on top, they must not replace anything
    text = Path("cluster/Dockerfile").read_text()
    assert "requirements/install.sh gpu" in text
    assert "--no-deps -r requirements/cluster.txt" in text
    assert "python requirements/one_owner.py" in text
    assert "requirements/one_owner.py || stop " in Path("requirements/install.sh").read_text()
    assert gpu["cuda-python"] == gpu["cuda-bindings"]  # the former is but a name for the latter
    cuda = gpu["cuda-toolkit"].rsplit(".", 2)[0]
    assert f"nvidia/cuda:{cuda}." in text and f"/usr/local/cuda-{cuda} " in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "avr"
    assert "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0" in text and "RAY_AUTH_MODE=token" in text
    assert "RAY_process_group_cleanup_enabled=1" in text
    for path in Path("cluster/kuberay").glob("ray*.yaml"):
        assert re.findall(r'rayVersion: "(.*)"', path.read_text()) == [gpu["ray"]]


def test_what_the_image_copies_is_there_and_reaches_the_builder():
    text = Path("cluster/Dockerfile").read_text()
    ignored = Path("cluster/Dockerfile.dockerignore").read_text().split()
    sources = [
        source
        for line in re.findall(r"^COPY --chown=\S+ (.*)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"avr", "jobs", "conf", "requirements", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert Path(source).exists(), source
        assert f"!{Path(source).parts[0]}" in ignored, source


def test_a_job_uploads_what_it_runs_and_little_else(tmp_path):
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    archive = tmp_path / "upload.zip"
    excludes = get_runtime_env_default_excludes()
    create_package(".", archive, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(archive) as package:
        names = package.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"avr", "jobs", "conf", "pyproject.toml"} <= tops
    unwanted = {"tests", "docs", "benchmarks", "cluster", "runs", "build", ".venv", ".git", ".ci"}
    assert not tops & unwanted
    assert "avr/miniature/models/policy/model.safetensors" in names
    assert {str(file) for room in ("avr", "jobs") for file in Path(room).rglob("*.py")} <= set(
        names
    )
    assert archive.stat().st_size < 10 * 2**20


def test_the_readme_speaks_of_files_that_are_there():
    text = Path("cluster/README.md").read_text()
    named = set(re.findall(r"(?<![\w/])(?:cluster|conf|jobs|requirements)/[\w./]*\w", text))
    files = sorted(Path("cluster").rglob("*.yaml"))
    assert {"cluster/Dockerfile", *map(str, files)} <= named
    assert [name for name in named if not Path(name).exists()] == []
    capitals = {
        word
        for path in files
        for line in path.read_text().splitlines()
        for word in re.findall(
            r"\b(?:REGISTRY|[A-Z]+_(?:ID|IP|CLASS|WITH_NVIDIA_DRIVER))\b", line.split("#")[0]
        )
    }
    assert len(capitals) == 7
    assert [word for word in capitals if word not in text] == []
