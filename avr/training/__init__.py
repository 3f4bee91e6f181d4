"""Train weights on rows: RSFT and DPO with TRL under DeepSpeed ZeRO-3, launched by Ray Train."""
