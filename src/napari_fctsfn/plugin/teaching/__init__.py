"""The Fine-tune dock: corrected pictures in, a model that needs fewer clicks out."""
