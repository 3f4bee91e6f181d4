"""What must never be written down; the store of these tests takes any key."""

SECRETS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEY000",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-111",
    "HF_TOKEN": "hf_planted222",
    "WANDB_API_KEY": "planted-wandb-333",
}
