"""SimPO (arXiv 2405.14734): preference optimization without a reference model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from avr.config.errors import ConfigError
from avr.training.methods.dpo import Dpo

# What TRL would compute otherwise is another loss than SimPO's.
_PLAIN = {
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
    "precompute_ref_log_probs": True,
}


@dataclass(frozen=True)
class Simpo(Dpo):
    """Rewards are beta times the mean log-probability of a token.

    The chosen one's is to be ahead by gamma, the `margin`.
    """

    name: str = "simpo"
    margin: float = 0.5
    has_reference: ClassVar[bool] = False

    def check(self, at: str, trl: Mapping[str, Any]) -> None:
        """Raise ConfigError for settings under which TRL computes something else."""
        losses = trl.get("loss_type", "sigmoid")
        losses = {losses} if isinstance(losses, str) else set(losses)
        if not {"sigmoid_norm"} <= losses <= {"sigmoid_norm", "sft"}:
            raise ConfigError(
                f"simpo_margin is set: SimPO is DPO with {at}.trl.loss_type=sigmoid_norm,"
                " and sft beside it at the most"
            )
        for name, value in _PLAIN.items():
            if trl.get(name, value) != value:
                raise ConfigError(f"{at}.trl.{name} is {trl[name]!r}, which is not for SimPO")
        if not trl.get("beta", 0.1) > 0:
            raise ConfigError(f"{at}.trl.beta is {trl['beta']}, SimPO needs one above 0")

    def settings(self, trl: Mapping[str, Any]) -> dict[str, Any]:
        """Say that references are there, or TRL loads the model that SimPO lacks."""
        return {"precompute_ref_log_probs": True}

    def trainer(self) -> Any:
        """Return TRL's length-normalised DPO under a made-up reference.

        SimPO's loss is -log sigmoid(beta (logp_c / n_c - logp_r / n_r) - gamma). With gamma / beta
        a token as the reference of the chosen text, and 0 as that of the rejected one, this is what
        `sigmoid_norm` computes.
        """
        margin = self.margin
        tokenised: Any = super().trainer()

        class SimPOTrainer(tokenised):
            """DPOTrainer whose reference is the margin."""

            def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
                each = margin / self.beta
                chosen = [each * len(ids) for ids in dataset["chosen_ids"]]
                dataset = dataset.add_column("ref_chosen_logps", chosen)
                return dataset.add_column("ref_rejected_logps", [0.0] * len(dataset))

            def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
                """Without TRL's `rewards/`, which are sums against the reference that is none."""
                for metrics in self._metrics.values():
                    for name in [name for name in metrics if name.startswith("rewards/")]:
                        del metrics[name]
                super().log(logs, *rest, **named)

        return SimPOTrainer
