"""What tests share: random graphs, trained models and the whole model's answer."""
