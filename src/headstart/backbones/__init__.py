"""Pretrained networks in stages: one file a family."""
