"""Ray's fake machines, each with a folder of its own for the code of jobs.

Ray's are processes that share the folder of the head. Each unpacks a job's code there anew when it
first needs it, over what the others run from, so that their imports may find nothing.
"""

from functools import partial
from unittest.mock import patch

from ray._private import parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class FakeMachines(FakeMultiNodeProvider):
    """What Ray's autoscaler starts and ends in the place of rented machines."""

    def _create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        with self.lock:
            disk = f"disk-{self._next_node_id}"
            own = partial(parameter.RayParams, runtime_env_dir_name=disk)
            with patch.object(parameter, "RayParams", own):
                super()._create_node_with_resources_and_labels(
                    node_config, tags, count, resources, labels
                )
