"""Read the nodes that a cluster file lets Ray start, as Ray's own readers understand the file."""

from pathlib import Path
from typing import Any

import yaml

from avr.config.errors import ConfigError
from avr.memory.devices import gpu_gib
from avr.plan.fit import NodeType


def node_types(file: Path) -> dict[str, NodeType]:
    """Return the node types, by name, of a file for Ray's cluster launcher or for KubeRay.

    KubeRay's are a RayCluster or a RayJob. Raises ConfigError where the file is none of these, or
    not one that Ray takes.
    """
    config = autoscaling(file)
    sections = _sections(yaml.safe_load(file.read_text()))
    return {
        name: NodeType(
            name,
            1 if name == config["head_node_type"] else kind["max_workers"],
            kind["resources"].get("CPU", 0),
            kind["resources"].get("GPU", 0),
            gpu_gib(sections.get(name)),
        )
        for name, kind in config["available_node_types"].items()
    }


def _sections(content: dict[str, Any]) -> dict[str, Any]:
    """Return the file's section for each node type; in KubeRay's a group of workers is a type."""
    if "available_node_types" in content:
        return dict(content["available_node_types"])
    return {group["groupName"]: group for group in spec_of(content).get("workerGroupSpecs", [])}


def autoscaling(file: Path) -> dict[str, Any]:
    """Return the file as Ray's autoscaler reads it. Raises ConfigError, see `node_types`."""
    from ray.autoscaler._private.kuberay import autoscaling_config
    from ray.autoscaler._private.util import prepare_config, validate_config

    if not file.is_file():
        raise ConfigError(f"no cluster file at {file}")
    try:
        content = yaml.safe_load(file.read_text())
        if "available_node_types" in content:
            config: dict[str, Any] = prepare_config(content)
            validate_config(config)
            return config
        named = {"metadata": {"name": "avr", "namespace": "default"}, "spec": spec_of(content)}
        return dict(autoscaling_config._derive_autoscaling_config_from_ray_cr(named))
    except Exception as error:  # each reader has errors of its own
        raise ConfigError(f"{file}: not a cluster that Ray can read: {error}") from error


def spec_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the RayCluster inside either kind of manifest."""
    spec: dict[str, Any] = manifest["spec"]
    return spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec
