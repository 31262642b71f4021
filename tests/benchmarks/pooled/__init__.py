"""What the study of the pooled flavour is made of; run `study_pooled.py` beside this folder."""
