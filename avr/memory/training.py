"""Work out what one training rank needs of its GPU under ZeRO. Pure; sizes are in bytes.

States as in ZeRO (arXiv 1910.02054, figure 1): of every trained parameter in 16 bits the weight,
its gradient, and in float32 the weight again and Adam's two moments; stage 1 shares out the float32
part among the ranks, stage 2 the gradients as well, stage 3 the weights as well. Under LoRA only
the adapter is trained (arXiv 2106.09685, section 4.2): the model has weights and nothing else. The
additions of DeepSpeed, TRL and peft are read in their sources (0.19.8, 1.16.0, 0.21.2).
"""

from dataclasses import dataclass, replace

from avr.memory.model import GIB, Model, Saved

ADAM = 8  # bytes a parameter: two moments in float32
# An estimate: CUDA's context, NCCL's buffers, and what the allocator cannot give out.
OVERHEAD = 2 * GIB
# TRL's fused head computes logits in tiles of so many tokens times words of the vocabulary.
TILE = (4096, 32768)


@dataclass(frozen=True, slots=True)
class Training:
    """Set what decides a rank's memory; `width` is the bytes of a weight while it trains.

    `sequences` go through the model side by side, of `length` tokens at the most; where `packed`
    they lie end to end. Without `deepspeed` it is plain data parallelism. `bucket`, `live` and
    `group` are DeepSpeed's reduce_bucket_size, stage3_max_live_parameters and sub_group_size, in
    parameters; there are `num_buckets` buckets. `reference`: a second model is asked in every step.
    `adapter` is the number of parameters that are trained beside the model's, whose own then are
    not; None where the model's are.
    """

    num_ranks: int
    stage: int
    width: int
    sequences: int
    length: int
    packed: bool = False
    checkpointing: bool = True
    reference: bool = False
    deepspeed: bool = True
    gradient_width: int = 2
    optimizer: int = ADAM
    bucket: int = 500_000_000
    num_buckets: int = 1
    live: int = 1_000_000_000
    group: int = 1_000_000_000
    offload_optimizer: bool = False
    offload_weights: bool = False
    adapter: int | None = None


@dataclass(frozen=True, slots=True)
class RankNeed:
    """Hold the bytes of a rank's GPU.

    `states` stay: weights, gradients, the optimizer's and the reference's. `activations` and
    `passing` (buckets, gathered weights, the head's logits and gradients) are there while rows go
    through, `update` in their place while the optimizer works. `overhead` is an estimate.
    """

    states: int
    passing: int
    activations: int
    update: int
    overhead: int = OVERHEAD

    @property
    def least(self) -> int:
        """Return the most it holds at a time: in the backward pass, or in the update of weights."""
        return self.states + max(self.passing + self.activations, self.update) + self.overhead

    @property
    def surely(self) -> int:
        """Add up states and activations: no estimates, and no parts that DeepSpeed could shrink."""
        return self.states + self.activations


def rank_need(model: Model, training: Training, saved: Saved) -> RankNeed:
    """Work out a rank's need. `saved` is of one batch of `training`."""
    return RankNeed(
        states=states(model.parameters, training) + _reference(model.parameters, training),
        passing=_passing(model, training),
        activations=saved.total(model.num_layers, training.checkpointing),
        update=_update(_trained(model, training), training),
    )


def _trained(model: Model, training: Training) -> int:
    return model.parameters if training.adapter is None else training.adapter


def states(parameters: int, training: Training) -> int:
    """Add up the weights, gradients, float32 weights and optimizer state that one rank keeps."""
    if training.adapter is None:
        return _weights(parameters, training) + _learning(parameters, training)
    adapter = training.adapter
    if not training.deepspeed:
        # peft keeps an adapter in float32, whatever the model has.
        return _weights(parameters, training) + 4 * adapter + _learning(adapter, _wide(training))
    return _weights(parameters + adapter, training) + _learning(adapter, training)


def _wide(training: Training) -> Training:
    return replace(training, width=4)


def _weights(parameters: int, training: Training) -> int:
    """Return the bytes of the weights that a rank keeps, as they go through a batch."""
    if training.offload_weights:
        return 0
    return parameters * training.width // _shares(training, training.stage == 3)


def _learning(trained: int, training: Training) -> int:
    """Add up what trained parameters need beside weights: gradients, float32 weights, optimizer."""
    each, stage = training, training.stage
    if not each.deepspeed:
        # DistributedDataParallel's buckets are a second copy of the gradients.
        copies = 2 if each.num_ranks > 1 else 1
        return trained * (each.width * copies + each.optimizer * each.width // 4)
    gradients = trained * each.gradient_width // _shares(each, stage >= 2)
    # Of weights in float32, stages 1 and 2 copy their share; 0 and 3 update them in place.
    master = 4 if each.width == 2 or stage in (1, 2) else 0
    kept = trained * (master + each.optimizer) // _shares(each, stage >= 1)
    return gradients + (0 if each.offload_optimizer else kept)


def _shares(training: Training, partitioned: bool) -> int:
    return training.num_ranks if partitioned and training.deepspeed else 1


def _reference(parameters: int, training: Training) -> int:
    if not training.reference:
        return 0
    return parameters * training.width // _shares(training, training.stage == 3)


def _passing(model: Model, training: Training) -> int:
    """Add up buckets, gathered weights, and the head: a tile of logits and gradients in float32.

    The head's gradient is summed up in float32 and then cast. Under stage 3 weights of up to `live`
    parameters are there at a time, and the head is gathered by itself.
    """
    head = model.vocabulary * model.hidden
    tokens = training.sequences * training.length
    tile = min(tokens, TILE[0]) * TILE[1] * training.width
    # An adapter is smaller than the head, unless it trains the head in full (modules_to_save).
    gradients = head if _trained(model, training) >= head else 0
    of_head = (gradients + tokens * model.hidden) * (4 + training.width) + tile
    if not training.deepspeed:
        return of_head
    buckets = training.num_buckets * training.bucket * training.width
    if training.stage < 3:
        return buckets + of_head
    live = min(model.parameters, max(training.live, model.largest))
    return buckets + (live + head) * training.width + of_head


def _update(parameters: int, training: Training) -> int:
    """Add up buckets and, in float32, the gradients of one group of parameters that is updated."""
    if not training.deepspeed or training.offload_optimizer:
        return 0
    buckets = training.num_buckets * training.bucket * training.width
    if training.width == 4:
        return buckets
    share = parameters // _shares(training, training.stage >= 1)
    group = min(share, training.group) if training.stage == 3 else share
    return buckets + 4 * group


def alternatives(training: Training, pairs: bool) -> list[tuple[str, Training]]:
    """List single settings that take less memory, the cheapest in time first.

    `pairs`: the rows are DPO's, whose batches hold two sequences a row.
    """
    least = 2 if pairs else 1
    found = []
    if training.reference:
        found += [("trl.precompute_ref_log_probs=true", replace(training, reference=False))]
    if training.sequences > least:
        one = replace(training, sequences=least)
        found += [("trl.per_device_train_batch_size=1", one)]
    if training.deepspeed and training.stage < 3:
        found += [("deepspeed.zero_optimization.stage=3", replace(training, stage=3))]
    if not training.checkpointing:
        checkpointing = replace(training, checkpointing=True)
        found += [("trl.gradient_checkpointing=true", checkpointing)]
    if training.deepspeed and training.stage >= 1:
        for num_ranks in (2 * training.num_ranks, 4 * training.num_ranks):
            found += [(f"num_workers={num_ranks}", replace(training, num_ranks=num_ranks))]
    shorter = training.length // 2
    found += [(f"trl.max_length={shorter}", replace(training, length=shorter))]
    return found
