"""Extend vLLM's workers: let them take over other weights, all of them."""

from typing import Any

from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding


class Reloading:
    """Extend vLLM's worker, as a mix-in named by its setting `worker_extension_cls`."""

    model_runner: Any

    def take_weights(self, folder: str) -> None:
        """Load the weights of a model folder of the same architecture.

        Where output and input share embeddings, vLLM on a CPU computes logits with a packed copy of
        them. Its own reload leaves that copy as it was: every text then comes from the new layers
        under the old output (found with vLLM 0.32).
        """
        self.model_runner.reload_weights(weights_path=folder)
        for module in self.model_runner.get_model().modules():
            if isinstance(module, VocabParallelEmbedding):
                module.quant_method.process_weights_after_loading(module)
