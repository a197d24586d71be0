"""Open weights in and out: diffusers folders, the original Wan checkpoints, hub repositories, LoRA, what a card can hold."""
