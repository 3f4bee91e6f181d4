"""Train by SimPO (arXiv 2405.14734): preference optimization without a reference model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from avr.config.errors import ConfigError
from avr.training.methods.dpo import Dpo

# With other values of these settings TRL computes another loss than SimPO's.
_PLAIN = {
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
    "precompute_ref_log_probs": True,
}


@dataclass(frozen=True)
class Simpo(Dpo):
    """Train by SimPO: a reward is beta times the mean log-probability of a token.

    The chosen text's reward should be ahead by gamma, the `margin`.
    """

    name: str = "simpo"
    margin: float = 0.5
    has_reference: ClassVar[bool] = False

    def check(self, at: str, trl: Mapping[str, Any]) -> None:
        """Raise ConfigError for settings under which TRL computes another loss."""
        losses = trl.get("loss_type", "sigmoid")
        losses = {losses} if isinstance(losses, str) else set(losses)
        if not {"sigmoid_norm"} <= losses <= {"sigmoid_norm", "sft"}:
            raise ConfigError(
                f"simpo_margin is set: SimPO is DPO with {at}.trl.loss_type=sigmoid_norm,"
                " optionally with sft beside it"
            )
        for name, value in _PLAIN.items():
            if trl.get(name, value) != value:
                raise ConfigError(f"{at}.trl.{name} is {trl[name]!r}, which SimPO does not support")
        if not trl.get("beta", 0.1) > 0:
            raise ConfigError(f"{at}.trl.beta is {trl['beta']}, SimPO needs one above 0")

    def settings(self, trl: Mapping[str, Any]) -> dict[str, Any]:
        """Tell TRL that it has references; or else it loads a model for them, which SimPO lacks."""
        return {"precompute_ref_log_probs": True}

    def trainer(self) -> Any:
        """Return TRL's length-normalised DPO trainer with a made-up reference.

        SimPO's loss is -log sigmoid(beta (logp_c / n_c - logp_r / n_r) - gamma). `sigmoid_norm`
        computes this loss if the reference of the chosen text is gamma / beta per token, and the
        reference of the rejected text is 0.
        """
        margin = self.margin
        tokenised: Any = super().trainer()

        class SimPOTrainer(tokenised):
            """Train by DPO with the margin as the reference."""

            def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
                # `sigmoid_norm` divides by the number of tokens, so it is multiplied in here.
                each = margin / self.beta
                chosen = [each * len(ids) for ids in dataset["chosen_ids"]]
                dataset = dataset.add_column("ref_chosen_logps", chosen)
                return dataset.add_column("ref_rejected_logps", [0.0] * len(dataset))

            def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
                """Log without TRL's `rewards/`: they are sums against the made-up reference."""
                for metrics in self._metrics.values():
                    for name in [name for name in metrics if name.startswith("rewards/")]:
                        del metrics[name]
                super().log(logs, *rest, **named)

        return SimPOTrainer
